//! A stream on a route with `presence` joins its channels, and leaves them when it ends.

use ssegate_hub::{ChannelName, Topic};

use super::Service;
use super::admission::Admission;
use super::counted::CountedStream;
use crate::route::{Channels, Route};

/// The names of the channels of a stream.
pub(super) fn names(topics: &[Topic]) -> impl Iterator<Item = ChannelName> {
    topics.iter().map(|topic| topic.subscription.name.clone())
}

/// A stream of these topics is open: its member joins them, until the stream ends.
pub(super) fn join(
    service: &Service,
    (route, channels): (&Route, &Channels),
    topics: &[Topic],
    admission: &Admission,
    counted: &mut CountedStream,
) {
    let Some(presence) = &route.presence else { return };
    let Some(member) = presence.member(admission.identity.as_ref()) else {
        service.metrics().presence_refused("id", 1);
        return route.warn("presence_id", |held_back| {
            const MESSAGE: &str = "a client is not known as a member: its credential has no value for \
                                   presence.identify, or one of more than 256 bytes";
            tracing::warn!(route = &*route.label, held_back, "{MESSAGE}");
        });
    };
    let of_route = (&route.scope, presence.settings(), channels.prefix_bytes());
    counted.keep(service.presence().join(names(topics).collect(), &member, of_route));
}
