//! The channels of a stream, from its request.

use std::sync::Arc;

use ssegate_auth::Identity;
use ssegate_format::Format;
use ssegate_hub::{ChannelName, FollowedPattern, Ids, Subscription, Topic};
use ssegate_hub::{HistorySettings, NameShape, Retention, RetentionRule, StreamSettings};

use super::OWN_NAMES;
use super::allowed_channels;
use super::channel_error::ChannelError;
use super::parameters::Parameters;
use super::servers::ServerChoice;
use super::settings::{EventsSettings, EventsSource, Ready};
use super::template::Template;
use crate::query;

/// The channels that a route's streams can have, and the settings of the streams.
#[derive(Debug)]
pub struct Channels {
    templates: Vec<Template>,
    settings: EventsSettings,
    stream: Arc<StreamSettings>,
    // Whether streams get an event when a member joins or leaves.
    has_presence: bool,
}

impl Channels {
    /// `has_presence`: streams get an event when a member joins or leaves.
    pub(super) fn new(settings: EventsSettings, has_presence: bool) -> Self {
        Self {
            has_presence,
            templates: settings.channels.iter().map(|text| Template::new(text)).collect(),
            stream: Arc::new(settings.stream.clone()),
            settings,
        }
    }

    /// Returns the topics that a request asks for, without duplicates. `identity` is the client's, on a route with
    /// `auth`.
    ///
    /// # Errors
    /// The request is invalid or not allowed, so that a retry is useless; see [`ChannelError`].
    pub fn topics(
        &self,
        path: &Parameters,
        query: &str,
        identity: Option<&Identity>,
    ) -> Result<Vec<Topic>, ChannelError> {
        let allowed = match &self.settings.claim {
            Some(claim) => {
                let listed = identity.and_then(|identity| identity.list(claim));
                let none = "the token has no such claim, or it is not a list of names";
                Some(listed.ok_or(ChannelError::NotAllowed(none))?)
            }
            None => None,
        };
        let mut topics = Vec::new();
        match &allowed {
            Some(allowed) if self.templates.is_empty() => self.add_listed(allowed, &mut topics)?,
            _ => self.add_requested(path, query, identity, &mut topics)?,
        }
        if let Some(allowed) = allowed {
            let prefix = self.prefix_bytes();
            let is_allowed = |topic: &Topic| {
                let Subscription { name, is_pattern } = &topic.subscription;
                allowed_channels::allows(&allowed, &name.as_str()[prefix..], *is_pattern)
            };
            if !topics.iter().all(is_allowed) {
                return Err(ChannelError::NotAllowed("the claim does not list the channel"));
            }
        }
        if topics.is_empty() {
            return Err(ChannelError::Missing);
        }
        Ok(topics)
    }

    /// Adds the topics of the presence events for a stream of `topics`, if the route has these events.
    pub fn add_presence(&self, topics: &mut Vec<Topic>) {
        if !self.has_presence {
            return;
        }
        let of = |topic: &Topic| topic.subscription.name.of_presence();
        let names: Vec<_> = topics.iter().filter_map(of).collect();
        topics.extend(names.into_iter().map(|name| Topic {
            subscription: Subscription { name, is_pattern: false },
            format: Format::Envelope,
            ids: self.ids(),
        }));
    }

    /// Returns the names of the channels that a request asks for, without duplicates, for an auth backend that decides
    /// on each of them. `None` if they are known only after authentication, because a part of a name, or the list of
    /// names, comes from the credential; or if a name may be a pattern.
    pub fn requested(&self, path: &Parameters, query: &str) -> Option<Vec<String>> {
        if self.settings.patterns || self.settings.claim.is_some() || self.templates.is_empty() {
            return None;
        }
        let (query, most) = (query::parse_strictly(query), self.settings.max_channels);
        let mut names: Vec<String> = Vec::new();
        for template in &self.templates {
            for name in template.fill(path, &query, None, most + 1).ok()? {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        // A request for more is rejected, whatever the backend decides.
        names.truncate(most + 1);
        Some(names)
    }

    /// Returns the topics of these names, without duplicates.
    ///
    /// # Errors
    /// As [`Self::topics`].
    pub fn topics_of<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Topic>, ChannelError> {
        let mut topics = Vec::new();
        for name in names {
            self.add(self.topic(name)?, &mut topics)?;
        }
        Ok(topics)
    }

    /// Returns an example of each kind of topic that a stream can have, to test whether Redis lets the
    /// gateway subscribe to it.
    pub fn samples(&self) -> Vec<Topic> {
        const VALUE: &str = "ssegate-check";
        let values = if self.settings.patterns { &[VALUE, "*"][..] } else { &[VALUE] };
        let names = values.iter().flat_map(|value| {
            let names = self.templates.iter().map(|template| template.sample(value));
            let of_others = self.templates.is_empty().then(|| (*value).to_owned());
            names.chain(of_others)
        });
        let mut topics: Vec<Topic> = names.filter_map(|name| self.topic(&name).ok()).collect();
        let followed = self.settings.follow.iter().map(|pattern| Topic {
            subscription: Subscription { name: pattern.clone(), is_pattern: true },
            format: self.settings.format,
            ids: self.ids(),
        });
        topics.extend(followed);
        self.add_presence(&mut topics);
        topics.dedup();
        topics
    }

    /// Returns the retention of the channels that a stream can have.
    pub(super) fn retention(&self) -> Vec<RetentionRule> {
        let EventsSettings { format, history, stream, strip_prefix, .. } = &self.settings;
        let rule_for = |names, format| RetentionRule {
            names,
            format,
            ids: self.ids(),
            retention: Retention { history: *history, linger: stream.linger },
        };
        let rules = |prefix: &str, format| -> Vec<RetentionRule> {
            if self.templates.is_empty() {
                // A handover, or a claim: any channel can be named.
                let any = NameShape::new(vec![prefix.to_owned(), String::new()]);
                return vec![rule_for(any, format)];
            }
            let shapes = self.templates.iter().map(|template| template.shape(prefix));
            shapes.map(|shape| rule_for(shape, format)).collect()
        };
        let mut all = rules(&format!("{}{strip_prefix}", self.own_prefix()), *format);
        if self.has_presence {
            let prefix = format!("{}{strip_prefix}", ChannelName::OF_PRESENCE);
            all.extend(rules(&prefix, Format::Envelope));
        }
        all
    }

    /// Returns the patterns that are followed from the start, before any stream asks for them.
    pub(super) fn followed(&self) -> impl Iterator<Item = FollowedPattern> {
        let format = self.settings.format;
        let is_recorded = self.settings.source == EventsSource::Recorded;
        let patterns = self.settings.follow.iter().filter(move |_| !is_recorded);
        patterns.map(move |pattern| FollowedPattern { pattern: pattern.clone(), format })
    }

    /// Returns the patterns whose channels are recorded from the start, before any stream asks for them.
    pub(super) fn recorded_patterns(&self) -> &[ChannelName] {
        match self.settings.source {
            EventsSource::Recorded => &self.settings.follow,
            EventsSource::PubSub | EventsSource::Log => &[],
        }
    }

    /// The kind of source.
    pub fn source(&self) -> EventsSource {
        self.settings.source
    }

    /// Which server the channels are at.
    pub fn server(&self) -> &ServerChoice {
        &self.settings.server
    }

    /// The settings of the stream.
    pub fn stream(&self) -> &Arc<StreamSettings> {
        &self.stream
    }

    /// The form of `ready`.
    pub fn ready(&self) -> Ready {
        self.settings.ready
    }

    /// The history of each channel; `None`: off.
    pub fn history(&self) -> Option<HistorySettings> {
        self.settings.history
    }

    /// The length of the prefix of each channel's name that clients do not see, in bytes.
    pub fn prefix_bytes(&self) -> usize {
        self.own_prefix().len() + self.settings.strip_prefix.len()
    }

    /// Whether the channels are sharded and their events are numbered by the order of a node. Recorded channels have
    /// the order of their log.
    pub fn are_in_order_of_node(&self) -> bool {
        self.settings.sharded && self.settings.source == EventsSource::PubSub
    }

    /// The prefix that the hub puts before the name of a channel in Redis.
    fn own_prefix(&self) -> &'static str {
        if self.settings.sharded { ChannelName::SHARDED } else { "" }
    }

    /// Adds the channels that the claim lists. A name with glob characters is a pattern. On a route without patterns it
    /// is refused: no channel is meant by it.
    fn add_listed(&self, listed: &[String], topics: &mut Vec<Topic>) -> Result<(), ChannelError> {
        for name in listed {
            self.add(self.topic(name)?, topics)?;
        }
        let is_meant =
            |topic: &Topic| topic.subscription.is_pattern || !topic.subscription.name.has_glob();
        match topics.is_empty() || !topics.iter().all(is_meant) {
            true => Err(ChannelError::NotAllowed(
                "the claim lists no channel, or a pattern, and the route has no `patterns: true`",
            )),
            false => Ok(()),
        }
    }

    fn add_requested(
        &self,
        path: &Parameters,
        query: &str,
        identity: Option<&Identity>,
        topics: &mut Vec<Topic>,
    ) -> Result<(), ChannelError> {
        let query = query::parse_strictly(query);
        for template in &self.templates {
            for name in template.fill(path, &query, identity, self.settings.max_channels + 1)? {
                let topic = self.topic(&name)?;
                // A glob character from the client, next to the part that identifies the client, could match that part,
                // too.
                if topic.subscription.is_pattern && template.names_identity() {
                    return Err(ChannelError::NoPattern);
                }
                self.add(topic, topics)?;
            }
        }
        Ok(())
    }

    fn add(&self, topic: Topic, topics: &mut Vec<Topic>) -> Result<(), ChannelError> {
        let limit = self.settings.max_channels;
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
        let made = match self.settings.sharded {
            false => ChannelName::new(&prefixed),
            true => ChannelName::sharded(&prefixed),
        };
        let name = made.map_err(ChannelError::Invalid)?;
        // A pattern may match such names, too: the intake does not deliver what comes on them.
        if prefixed.starts_with(OWN_NAMES) {
            return Err(ChannelError::OwnName);
        }
        let is_pattern = self.settings.patterns && name.has_glob();
        if is_pattern && ChannelName::RESERVED.iter().any(|reserved| name.may_match(reserved)) {
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
            EventsSource::Recorded => Ids::Recorded,
            EventsSource::PubSub if self.settings.history.is_some() => Ids::Ours,
            EventsSource::PubSub => Ids::Publisher,
        }
    }
}

#[cfg(test)]
mod tests {
    use ssegate_format::Format;
    use ssegate_hub::InvalidChannelName;
    use ssegate_hub::{HistorySettings, StreamSettings};

    use super::Channels;
    use crate::route::channel_error::ChannelError;
    use crate::route::parameters::Parameters;
    use crate::route::{EventsSettings, EventsSource, Ready};

    fn channels(change: impl FnOnce(&mut EventsSettings)) -> Channels {
        let mut settings = EventsSettings {
            channels: vec!["{query.channel}".into()],
            format: Format::Raw,
            source: EventsSource::PubSub,
            server: crate::route::ServerChoice::First,
            history: Some(HistorySettings::default()),
            strip_prefix: String::new(),
            sharded: false,
            patterns: false,
            follow: Vec::new(),
            max_channels: 3,
            claim: None,
            stream: StreamSettings::default(),
            ready: Ready::Auto,
        };
        change(&mut settings);
        Channels::new(settings, false)
    }

    fn names(channels: &Channels, query: &str) -> Result<Vec<(String, bool)>, ChannelError> {
        let topics = channels.topics(&Parameters::default(), query, None)?;
        let pair = |topic: ssegate_hub::Topic| {
            (topic.subscription.name.to_string(), topic.subscription.is_pattern)
        };
        Ok(topics.into_iter().map(pair).collect())
    }

    #[test]
    fn a_query_may_name_several_channels_and_duplicates_are_dropped() {
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
    fn a_name_that_is_not_utf_8_is_rejected() {
        let routes = channels(|_| {});
        assert_eq!(names(&routes, "channel=a&channel=%ff"), Err(ChannelError::NotUtf8));
        assert_eq!(names(&routes, "channel=a&other=%ff"), Ok(vec![("a".into(), false)]));
    }

    #[test]
    fn globs_are_patterns_only_on_a_route_with_patterns() {
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
    fn the_names_of_gateways_are_not_for_clients() {
        let routes = channels(|settings| settings.patterns = true);
        for name in ["ssegate:", "ssegate:revoke", "ssegate:*", "ssegate:chec?:x"] {
            assert_eq!(names(&routes, &format!("channel={name}")), Err(ChannelError::OwnName));
            assert_eq!(routes.topics_of([name].into_iter()), Err(ChannelError::OwnName));
        }
        let prefixed = channels(|settings| settings.strip_prefix = "ssegate".into());
        assert_eq!(names(&prefixed, "channel=:revoke"), Err(ChannelError::OwnName));
        assert!(names(&prefixed, "channel=.revoke").is_ok());
        assert!(names(&routes, "channel=ssegate").is_ok());
    }

    #[test]
    fn the_prefix_is_checked_together_with_the_name() {
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
