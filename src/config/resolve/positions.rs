//! Checks that the position of a client fits into the request with which it reconnects.
//!
//! A position in several Redis Streams has a part for each of them, and is sent in the header field
//! `Last-Event-ID`.

use ssegate_hub::{MAX_LOGS, max_position_bytes};
use ssegate_strict_yaml::{KeyLocation, Size};

use super::resolver::Resolver;
use crate::route::EventsSettings;

/// What is left for the rest of a request's header, in bytes; at most half of the limit.
const REST: usize = 2 << 10;

impl Resolver<'_> {
    /// Notes a mistake where a stream may have more channels than fit into a position.
    pub(super) fn check_positions(
        &self,
        location: Option<&KeyLocation>,
        settings: &EventsSettings,
    ) {
        // Without channels from the query, their number is that of the list. The position in a single
        // channel is a plain entry id, which always fits.
        let channels = &settings.channels;
        let is_open = channels.is_empty() || channels.iter().any(|name| name.contains("{query."));
        let max_channels = settings.max_channels;
        let named = if is_open { max_channels } else { channels.len().min(max_channels) };
        let Some(location) = location.filter(|_| settings.source.is_log() && named > 1) else {
            return;
        };
        let header = self.max_header_bytes;
        let fits = |logs: &usize| max_position_bytes(*logs) + REST.min(header / 2) <= header;
        let most = (1..=MAX_LOGS).rev().find(fits).unwrap_or(0);
        if named <= most {
            return;
        }
        let bound = match most {
            MAX_LOGS => String::new(),
            _ => format!(
                ", since the id must fit into a header of {} (http1.header, http2.header_list)",
                Size(header)
            ),
        };
        let message = format!(
            "with source: stream, the id of an event has a part for each channel, so that a stream can \
             have at most {most}{bound}; set max_channels to {most} or less; this is {named}"
        );
        self.note(location, message);
    }
}
