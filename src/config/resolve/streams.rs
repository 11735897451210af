//! Resolves the keys of one stream, on an events route or of a handover.

use ssegate_hub::{ChannelName, Replay};
use ssegate_strict_yaml::{Field, KeyLocation, Sets};

use super::resolver::{Resolver, SourceOrder};
use crate::config::file::{EventsFile, HandoverFile};
use crate::config::stream_options::StreamOptions;
use crate::route::{EventsSettings, EventsSource, OWN_NAMES, ServerChoice};

/// The keys of a stream that may exclude each other, with the locations of those that are there.
pub(super) struct StreamKeys<'a> {
    source: Option<&'a KeyLocation>,
    replay: Option<&'a KeyLocation>,
    patterns: Option<&'a KeyLocation>,
    sharded: Option<&'a KeyLocation>,
    max_channels: Option<&'a KeyLocation>,
    strip_prefix: &'a Field<String>,
    redis: &'a Field<String>,
}

impl<'a> From<&'a EventsFile> for StreamKeys<'a> {
    fn from(file: &'a EventsFile) -> Self {
        Self {
            source: file.source.location(),
            replay: file.replay.location(),
            patterns: file.patterns.location(),
            sharded: file.sharded.location(),
            max_channels: file.max_channels.location(),
            strip_prefix: &file.strip_prefix,
            redis: &file.redis,
        }
    }
}

impl<'a> From<&'a HandoverFile> for StreamKeys<'a> {
    fn from(file: &'a HandoverFile) -> Self {
        Self {
            source: file.source.location(),
            replay: file.replay.location(),
            patterns: None,
            sharded: None,
            max_channels: file.max_channels.location(),
            strip_prefix: &file.strip_prefix,
            redis: &file.redis,
        }
    }
}

impl Resolver<'_> {
    /// Returns the settings of the streams that `file` describes: `options`, changed by its keys; `None`
    /// where there are no `channels`.
    pub(super) fn stream<'f, F: Sets<StreamOptions>>(
        &self,
        file: &'f F,
        location: &KeyLocation,
        mut options: StreamOptions,
        channels: impl FnOnce() -> Option<Vec<String>>,
    ) -> Option<EventsSettings>
    where
        StreamKeys<'f>: From<&'f F>,
    {
        let keys = StreamKeys::from(file);
        file.set(&mut options, location, self.mistakes);
        let server = self.server_choice(keys.redis);
        self.check_stream(&options, &keys, &server);
        let strip_prefix = self.strip_prefix(keys.strip_prefix);
        let settings = options.events(channels()?, (strip_prefix, server));
        self.check_positions(keys.max_channels.or(keys.source), &settings);
        Some(settings)
    }

    /// Notes keys of a stream that exclude each other.
    fn check_stream(&self, options: &StreamOptions, keys: &StreamKeys<'_>, server: &ServerChoice) {
        let order = self.order_at(server);
        let is_log = options.source.is_log();
        if let Some(location) = keys.patterns.filter(|_| is_log && options.patterns) {
            self.note(
                location,
                "is not supported with source: stream or recorded, only with pubsub",
            );
        }
        let is_recorded = options.source == EventsSource::Recorded;
        if let Some(location) = keys.source.filter(|_| is_recorded && order == SourceOrder::Bus) {
            self.note(
                location,
                "is not supported with embedded://, which keeps nothing over a restart; set redis.url to a Redis, or \
                 use pubsub",
            );
        }
        let is_cluster = order == SourceOrder::Cluster;
        if let Some(location) =
            keys.source.filter(|_| is_recorded && is_cluster && !options.sharded)
        {
            self.note(
                location,
                "is not supported with redis+cluster:// without sharded: true: each node has another order of what is \
                 published with PUBLISH (docs/CLUSTER.md); write that and publish with SPUBLISH, or use stream",
            );
        }
        if let Some(location) = keys.sharded.filter(|_| options.sharded) {
            self.check_sharded(options, location, order);
        }
        let keeps_nothing = !is_log && options.history.is_none();
        let is_useless = keeps_nothing && options.stream.replay != Replay::None;
        if let Some(location) = keys.replay.filter(|_| is_useless) {
            self.note(location, "has no effect with history: off, since nothing is kept to replay");
        }
    }

    /// Notes what sharded channels cannot have.
    fn check_sharded(&self, options: &StreamOptions, location: &KeyLocation, order: SourceOrder) {
        match options.source {
            EventsSource::PubSub | EventsSource::Recorded => {}
            EventsSource::Log => self.note(
                location,
                "is not supported with source: stream: each stream is at one node anyway",
            ),
        }
        if options.patterns {
            self.note(
                location,
                "is not supported with patterns: true: Redis has no patterns of sharded channels; write one of them",
            );
        }
        if self.servers.divides_names {
            const WHY: &str = "is not supported with redis.shards, where PUBLISH reaches one server anyway; remove it";
            return self.note(location, WHY);
        }
        match order {
            SourceOrder::Cluster | SourceOrder::Fleet | SourceOrder::Unused => {}
            SourceOrder::Bus => self.note(
                location,
                "is not supported with embedded://; with one server PUBLISH and SUBSCRIBE reach the same clients",
            ),
        }
    }

    fn strip_prefix(&self, field: &Field<String>) -> String {
        let Field::Written(at) = field else { return String::new() };
        if !at.value.is_empty() {
            self.parse(at, |prefix| match ChannelName::new(prefix) {
                Ok(_) if prefix.starts_with(OWN_NAMES) => Err(format!(
                    "not a valid prefix: names that begin with {OWN_NAMES} are reserved by the gateway"
                )),
                Ok(name) => Ok(name),
                Err(error) => Err(format!("not a valid prefix: {error}")),
            });
        }
        at.value.clone()
    }
}
