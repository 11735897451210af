//! Positions of clients have to fit into the requests with which they come back.
//!
//! A position in Redis Streams has a part for each of them, and is a field in the header of a request.

use crate::config::error::Place;
use crate::config::units::Size;
use crate::hub::{MAX_LOGS, max_position_bytes};
use crate::route::{EventsSettings, EventsSource};

use super::Resolver;

/// What the rest of a request's header takes, or half of what it may, in bytes.
const REST: usize = 2 << 10;

impl Resolver<'_> {
    /// Notes where a stream may have more channels than a position has room for.
    pub(super) fn check_positions(&self, place: Option<&Place>, settings: &EventsSettings) {
        // Where none comes from the query, there are as many as are written; the position in one is
        // the id of an entry.
        let channels = &settings.channels;
        let is_open = channels.is_empty() || channels.iter().any(|name| name.contains("{query."));
        let max_channels = settings.max_channels;
        let named = if is_open { max_channels } else { channels.len().min(max_channels) };
        let Some(place) = place.filter(|_| settings.source == EventsSource::Log && named > 1)
        else {
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
                "; so many fit into a header of {} (http1.header, http2.header_list)",
                Size(header)
            ),
        };
        let message = format!(
            "with source: stream, where a position has a part for each channel, a stream has at \
             most {most}{bound}; set max_channels to {most} or less, this is {named}"
        );
        self.note(place, message);
    }
}
