//! Puts a message into the form in which the clients of its channel read it.
//!
//! The body of a request is data, whatever it looks like. If the format of a route would parse an event out
//! of it, it is wrapped.

use bytes::Bytes;
use ssegate_format::{Format, encode_envelope};
use ssegate_hub::ChannelName;

use super::message::IncomingMessage;
use super::refusal::PublishRefusal;
use crate::route::{ChannelError, ChannelFollower, EventsSource, OWN_NAMES};
use crate::service::rejection::Rejection;
use crate::source::publishing::{Publication, PublicationKind};

/// Returns the publication of `message` to the channel that clients call `name`, in the form that its
/// `follower` reads; `None`: no route does.
///
/// # Errors
/// No channel can have the name, or the follower cannot read the event name or the id of the message.
pub(super) fn publication(
    message: &IncomingMessage,
    name: &str,
    follower: Option<ChannelFollower<'_>>,
    max_entries: Option<usize>,
) -> Result<Publication, Rejection> {
    let prefix = follower.map_or("", |follower| follower.events.strip_prefix.as_str());
    let prefixed = format!("{prefix}{name}");
    if prefixed.starts_with(OWN_NAMES) {
        return Err(ChannelError::OwnName.into());
    }
    let channel = ChannelName::new(&prefixed).map_err(ChannelError::Invalid)?;
    let kind = match follower {
        Some(follower) => for_follower(message, follower, max_entries)?,
        None => {
            let named = [("event name", &message.event), ("id", &message.id)];
            if let Some((what, _)) = named.into_iter().find(|(_, value)| value.is_some()) {
                return Err(cannot(format!(
                    "no events route has the channel {name}, so nobody would read the {what}"
                )));
            }
            PublicationKind::Message(message.data.clone())
        }
    };
    Ok(Publication { channel, kind })
}

/// The size of what is published, in bytes.
pub(super) fn size(publication: &Publication) -> usize {
    match &publication.kind {
        PublicationKind::Message(payload) | PublicationKind::Sharded(payload) => payload.len(),
        PublicationKind::Entry { fields, .. } => {
            fields.iter().map(|(name, value)| name.len() + value.len()).sum()
        }
    }
}

fn cannot(why: String) -> Rejection {
    PublishRefusal::Invalid(why).into()
}

fn for_follower(
    IncomingMessage { data, event, id, .. }: &IncomingMessage,
    ChannelFollower { route, events }: ChannelFollower<'_>,
    max_entries: Option<usize>,
) -> Result<PublicationKind, Rejection> {
    let path = &route.path;
    let is_log = events.source == EventsSource::Log;
    if id.is_some() {
        let why = match (events.format, events.history) {
            _ if is_log => Some("has source: stream, whose entries have ids of their own"),
            _ if events.source.is_log() => {
                Some("has source: recorded, whose messages have ids of their own")
            }
            (Format::Envelope, None) => None,
            (Format::Envelope, Some(_)) => {
                Some("gives events its own ids; set history: off on it, or leave the id out")
            }
            _ => Some("has a format without ids; set format: envelope and history: off on it"),
        };
        if let Some(why) = why {
            return Err(cannot(format!("an id is of no use: the route {path} {why}")));
        }
    }
    if is_log {
        let mut fields = vec![("data", payload(events.format, data, None, None)?)];
        fields.extend(event.as_ref().map(|name| ("event", Bytes::from(name.clone()))));
        return Ok(PublicationKind::Entry { fields, max_entries });
    }
    if events.format == Format::Raw && event.is_some() {
        return Err(cannot(format!(
            "the route {path} has format: raw, whose messages have no event name; set format: envelope on it"
        )));
    }
    let payload = payload(events.format, data, event.as_deref(), id.as_deref())?;
    Ok(match events.sharded {
        false => PublicationKind::Message(payload),
        true => PublicationKind::Sharded(payload),
    })
}

/// A payload from which `format` reads exactly this event.
fn payload(
    format: Format,
    data: &Bytes,
    event: Option<&str>,
    id: Option<&str>,
) -> Result<Bytes, Rejection> {
    let event = match format {
        Format::Raw => return Ok(data.clone()),
        Format::Envelope => event,
        // Without the key it would not be a broadcast. An empty name stands for no name.
        Format::Laravel => Some(event.unwrap_or_default()),
    };
    match std::str::from_utf8(data) {
        Ok(data) => Ok(encode_envelope(event, id, data).into()),
        // Not JSON, so that no format parses anything out of it.
        Err(_) if event.is_none_or(str::is_empty) && id.is_none() => Ok(data.clone()),
        Err(_) => {
            Err(cannot("a message with an event name or an id has to be valid UTF-8".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_format::Format;
    use ssegate_hub::{HistorySettings, StreamSettings};
    use ssegate_sse::Event;

    use super::publication;
    use crate::route::{
        ChannelFollower, CorsSettings, EventsSettings, EventsSource, Ready, RouteSettings, Target,
    };
    use crate::service::publish::message::IncomingMessage;
    use crate::source::publishing::PublicationKind;

    fn events(format: Format, source: EventsSource, has_history: bool) -> EventsSettings {
        EventsSettings {
            channels: vec!["{channel}".into()],
            format,
            source,
            server: crate::route::ServerChoice::First,
            history: has_history.then(HistorySettings::default),
            strip_prefix: "app:".into(),
            sharded: false,
            patterns: false,
            follow: Vec::new(),
            max_channels: 3,
            claim: None,
            stream: StreamSettings::default(),
            ready: Ready::Auto,
        }
    }

    fn publish(
        message: &IncomingMessage,
        events: &EventsSettings,
    ) -> Result<PublicationKind, String> {
        let route = RouteSettings {
            path: "/events/{channel}".into(),
            host: None,
            methods: Vec::new(),
            target: Target::Demo,
            auth: None,
            cors: CorsSettings::default(),
            handover: None,
            keep: None,
            share: None,
            presence: None,
        };
        let follower = ChannelFollower { route: &route, events };
        let publication = publication(message, "news", Some(follower), Some(7));
        let publication = publication.map_err(|rejection| rejection.to_string())?;
        assert_eq!(publication.channel.as_str(), "app:news");
        Ok(publication.kind)
    }

    fn message(data: &'static [u8], event: Option<&str>, id: Option<&str>) -> IncomingMessage {
        IncomingMessage {
            data: Bytes::from_static(data),
            event: event.map(str::to_owned),
            id: id.map(str::to_owned),
            channel: None,
        }
    }

    #[test]
    fn every_format_reads_exactly_what_was_sent() {
        for format in Format::ALL {
            for data in [
                &b"hello"[..],
                b"",
                b"a\nb",
                b"\xff\0",
                br#"{"event":"forged","data":"x","id":"9","retry":1}"#,
                br#"{"data":{"socket":"1"},"event":"x"}"#,
                b"\"text\"",
            ] {
                let event = (*format != Format::Raw && data != b"\xff\0").then_some("ping");
                for event in [None, event] {
                    let settings = events(*format, EventsSource::PubSub, true);
                    let kind = publish(&message(data, event, None), &settings).expect("published");
                    let PublicationKind::Message(payload) = kind else { panic!("{kind:?}") };
                    let decoded = format.decode(&payload);
                    let name = event.map(Into::into);
                    let expected =
                        Event { name, data: Bytes::from_static(data), ..Event::default() };
                    assert_eq!(
                        (decoded.event, decoded.is_malformed),
                        (expected, false),
                        "{format:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_a_route_cannot_carry_is_refused_with_the_fix() {
        use EventsSource::{Log, PubSub};
        for (format, source, has_history, event, id, expected) in [
            (Format::Raw, PubSub, true, Some("x"), None, "set format: envelope on it"),
            (Format::Raw, PubSub, false, None, Some("1"), "format: envelope and history: off"),
            (Format::Envelope, PubSub, true, None, Some("1"), "set history: off on it"),
            (Format::Laravel, PubSub, false, None, Some("1"), "without ids"),
            (Format::Envelope, Log, false, None, Some("1"), "ids of their own"),
        ] {
            let settings = events(format, source, has_history);
            let refused = publish(&message(b"x", event, id), &settings).expect_err("refused");
            assert!(
                refused.contains(expected) && refused.contains("/events/{channel}"),
                "{refused}"
            );
        }
        let settings = events(Format::Envelope, PubSub, false);
        let kind = publish(&message(b"x", Some("ping"), Some("1")), &settings);
        let expected = Bytes::from_static(br#"{"event":"ping","id":"1","data":"x"}"#);
        assert_eq!(kind, Ok(PublicationKind::Message(expected)));
        let refused =
            publish(&message(b"\xff", Some("ping"), None), &settings).expect_err("refused");
        assert!(refused.contains("UTF-8"), "{refused}");
    }

    #[test]
    fn an_entry_has_the_fields_that_the_stream_reader_reads() {
        let settings = events(Format::Raw, EventsSource::Log, true);
        let data = Bytes::from_static(b"x");
        for (event, fields) in [
            (None, vec![("data", data.clone())]),
            (Some("ping"), vec![("data", data), ("event", Bytes::from_static(b"ping"))]),
        ] {
            let kind = publish(&message(b"x", event, None), &settings);
            assert_eq!(kind, Ok(PublicationKind::Entry { fields, max_entries: Some(7) }));
        }
        let settings = events(Format::Envelope, EventsSource::Log, true);
        let kind = publish(&message(br#"{"data":1}"#, None, None), &settings);
        let data = Bytes::from_static(br#"{"data":"{\"data\":1}"}"#);
        let fields = vec![("data", data)];
        assert_eq!(kind, Ok(PublicationKind::Entry { fields, max_entries: Some(7) }));
    }

    #[test]
    fn without_a_follower_only_the_data_can_be_published() {
        let publish = |message: &IncomingMessage| publication(message, "news", None, None);
        let kind = publish(&message(b"{}", None, None)).expect("published").kind;
        assert_eq!(kind, PublicationKind::Message(Bytes::from_static(b"{}")));
        let refused = publish(&message(b"x", Some("ping"), None)).expect_err("refused").to_string();
        assert!(refused.contains("no events route has the channel news"), "{refused}");
    }
}
