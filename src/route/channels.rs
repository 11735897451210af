//! From a request to the channels of its stream.

use std::sync::Arc;

use super::router::Parameters;
use super::template::{NotText, Template};
use super::{EventsSettings, EventsSource, Ready};
use crate::event::{ChannelName, Ids, InvalidChannelName, Subscription, Topic};
use crate::hub::{HistorySettings, NameShape, Retention, RetentionRule, StreamSettings};
use crate::query;

/// The channels that an events route leads to, and how their stream is kept.
#[derive(Debug)]
pub struct Channels {
    templates: Vec<Template>,
    settings: EventsSettings,
    stream: Arc<StreamSettings>,
}

/// Why a request has no stream.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The request names no channel.
    #[error("no channel is named")]
    Missing,
    /// A name whose percent-encoding is that of no UTF-8.
    #[error("the name of a channel is not valid UTF-8")]
    NotText,
    /// More than the route allows on one stream.
    #[error("more than {0} channels on one stream")]
    TooMany(usize),
    /// A name that no channel can have.
    #[error("{0}")]
    Invalid(InvalidChannelName),
    /// A pattern that could hear what Redis says of its own keys.
    #[error("the pattern also matches names that are reserved by Redis")]
    ReservedPattern,
}

impl Channels {
    pub(super) fn new(settings: EventsSettings) -> Self {
        Self {
            templates: settings.channels.iter().map(|text| Template::new(text)).collect(),
            stream: Arc::new(settings.stream.clone()),
            settings,
        }
    }

    /// The topics that the request asks for, each once.
    ///
    /// # Errors
    /// Each is the client's fault, and final; see [`ChannelError`].
    pub fn topics(&self, path: &Parameters, query: &str) -> Result<Vec<Topic>, ChannelError> {
        let query = query::parse_strictly(query);
        let limit = self.settings.max_channels;
        let mut topics = Vec::new();
        for template in &self.templates {
            for name in template.fill(path, &query, limit + 1)? {
                self.add(&name, &mut topics)?;
            }
        }
        if topics.is_empty() {
            return Err(ChannelError::Missing);
        }
        Ok(topics)
    }

    /// The topics of these names, each once.
    ///
    /// # Errors
    /// As [`Self::topics`].
    pub fn topics_of<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Topic>, ChannelError> {
        let mut topics = Vec::new();
        for name in names {
            self.add(name, &mut topics)?;
        }
        Ok(topics)
    }

    /// Some topics that it can lead to, of each kind: to try whether they can be followed.
    pub fn samples(&self) -> Vec<Topic> {
        const VALUE: &str = "ssegate-check";
        let values = if self.settings.patterns { &[VALUE, "*"][..] } else { &[VALUE] };
        let names = values.iter().flat_map(|value| {
            let names = self.templates.iter().map(|template| template.sample(value));
            let of_others = self.templates.is_empty().then(|| (*value).to_owned());
            names.chain(of_others)
        });
        let mut topics: Vec<Topic> = names.filter_map(|name| self.topic(&name).ok()).collect();
        topics.dedup();
        topics
    }

    /// What is to be kept of the channels that it can lead to.
    pub(super) fn retention(&self) -> Vec<RetentionRule> {
        let EventsSettings { format, history, stream, strip_prefix, .. } = &self.settings;
        let rule = |names| RetentionRule {
            names,
            format: *format,
            ids: self.ids(),
            retention: Retention { history: *history, linger: stream.linger },
        };
        if self.templates.is_empty() {
            // Somebody else names them.
            return vec![rule(NameShape::new(vec![strip_prefix.clone(), String::new()]))];
        }
        self.templates.iter().map(|template| rule(template.shape(strip_prefix))).collect()
    }

    /// Where the events come from.
    pub fn source(&self) -> EventsSource {
        self.settings.source
    }

    /// How the stream is kept.
    pub fn stream(&self) -> &Arc<StreamSettings> {
        &self.stream
    }

    /// The form of `ready`.
    pub fn ready(&self) -> Ready {
        self.settings.ready
    }

    /// What is kept of the channels, for clients that come back.
    pub fn history(&self) -> Option<HistorySettings> {
        self.settings.history
    }

    /// Bytes at the head of each channel's name that clients do not see.
    pub fn prefix_bytes(&self) -> usize {
        self.settings.strip_prefix.len()
    }

    fn add(&self, name: &str, topics: &mut Vec<Topic>) -> Result<(), ChannelError> {
        let (topic, limit) = (self.topic(name)?, self.settings.max_channels);
        if topics.contains(&topic) {
            return Ok(());
        }
        if topics.len() >= limit {
            return Err(ChannelError::TooMany(limit));
        }
        topics.push(topic);
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<Topic, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Missing);
        }
        let prefixed = format!("{}{name}", self.settings.strip_prefix);
        let name = ChannelName::new(&prefixed).map_err(ChannelError::Invalid)?;
        let is_pattern = self.settings.patterns && name.has_glob();
        if is_pattern && ChannelName::RESERVED.iter().any(|reserved| may_match(&name, reserved)) {
            return Err(ChannelError::ReservedPattern);
        }
        Ok(Topic {
            subscription: Subscription { name, is_pattern },
            format: self.settings.format,
            ids: self.ids(),
        })
    }

    fn ids(&self) -> Ids {
        match self.settings.source {
            EventsSource::Log => Ids::Entries,
            EventsSource::PubSub if self.settings.history.is_some() => Ids::Ours,
            EventsSource::PubSub => Ids::Publisher,
        }
    }
}

impl From<NotText> for ChannelError {
    fn from(_: NotText) -> Self {
        Self::NotText
    }
}

/// Whether a pattern could match a name that begins with `reserved`: it says so up to its first
/// glob character, or up to the end of `reserved`.
fn may_match(pattern: &ChannelName, reserved: &str) -> bool {
    let pattern = pattern.as_str();
    let literal = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    let known = literal.min(reserved.len());
    pattern.as_bytes()[..known] == reserved.as_bytes()[..known]
}

#[cfg(test)]
mod tests {
    use super::{ChannelError, Channels};
    use crate::event::{Format, InvalidChannelName};
    use crate::hub::{HistorySettings, StreamSettings};
    use crate::route::router::Parameters;
    use crate::route::{EventsSettings, EventsSource, Ready};

    fn channels(change: impl FnOnce(&mut EventsSettings)) -> Channels {
        let mut settings = EventsSettings {
            channels: vec!["{query.channel}".into()],
            format: Format::Raw,
            source: EventsSource::PubSub,
            history: Some(HistorySettings::default()),
            strip_prefix: String::new(),
            patterns: false,
            max_channels: 3,
            stream: StreamSettings::default(),
            ready: Ready::Auto,
        };
        change(&mut settings);
        Channels::new(settings)
    }

    fn names(channels: &Channels, query: &str) -> Result<Vec<(String, bool)>, ChannelError> {
        let topics = channels.topics(&Parameters::default(), query)?;
        let pair = |topic: crate::event::Topic| {
            (topic.subscription.name.to_string(), topic.subscription.is_pattern)
        };
        Ok(topics.into_iter().map(pair).collect())
    }

    #[test]
    fn a_query_may_name_several_channels_each_counts_once() {
        let routes = channels(|_| {});
        assert_eq!(
            names(&routes, "channel=a&x=1&channel=b%2Fc&channel=a&channel=d+e"),
            Ok(vec![("a".into(), false), ("b/c".into(), false), ("d e".into(), false)])
        );
        assert_eq!(names(&routes, ""), Err(ChannelError::Missing));
        assert_eq!(names(&routes, "channel="), Err(ChannelError::Missing));
        assert_eq!(
            names(&routes, "channel=a&channel=b&channel=c&channel=d"),
            Err(ChannelError::TooMany(3))
        );
    }

    #[test]
    fn a_name_that_is_no_text_is_refused_and_not_mended() {
        let routes = channels(|_| {});
        assert_eq!(names(&routes, "channel=a&channel=%ff"), Err(ChannelError::NotText));
        assert_eq!(names(&routes, "channel=a&other=%ff"), Ok(vec![("a".into(), false)]));
    }

    #[test]
    fn globs_are_patterns_only_where_the_route_says_so() {
        assert_eq!(names(&channels(|_| {}), "channel=a*"), Ok(vec![("a*".into(), false)]));
        let routes = channels(|settings| settings.patterns = true);
        assert_eq!(names(&routes, "channel=a*"), Ok(vec![("a*".into(), true)]));
        for pattern in [
            "*",
            "_*",
            "__key*",
            "__keyspace@*",
            "?_keyspace@0__:x",
            "[_]x",
            "__sentinel__:*",
            "\\__x",
        ] {
            assert_eq!(
                names(&routes, &format!("channel={pattern}")),
                Err(match pattern {
                    "__keyspace@*" | "__sentinel__:*" => {
                        ChannelError::Invalid(InvalidChannelName::Reserved)
                    }
                    _ => ChannelError::ReservedPattern,
                }),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_prefix_is_put_on_and_checked_with_the_name() {
        let routes = channels(|settings| settings.strip_prefix = "app:".into());
        assert_eq!(names(&routes, "channel=a"), Ok(vec![("app:a".into(), false)]));
        let routes = channels(|settings| settings.strip_prefix = "__keyspace".into());
        assert_eq!(
            names(&routes, "channel=@0__:secret"),
            Err(ChannelError::Invalid(InvalidChannelName::Reserved))
        );
        let routes = channels(|settings| settings.strip_prefix = "x".repeat(250));
        assert_eq!(
            names(&routes, "channel=123456"),
            Err(ChannelError::Invalid(InvalidChannelName::TooLong))
        );
    }
}
