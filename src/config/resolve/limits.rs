//! Resolves the limits of `http1` and `http2` that depend on each other.

use ssegate_http2::Http2Settings;
use ssegate_strict_yaml::{At, Field, Size};

use super::resolver::Resolver;
use crate::config::file::{Http1File, Http2File};
use crate::server::{ConnectionSettings, Http1Settings};

/// The longest request header that every protocol accepts, in bytes.
pub(super) fn max_header_bytes(connections: &ConnectionSettings) -> usize {
    connections.http1.max_header_bytes.min(connections.http2.max_header_list_bytes as usize)
}

impl Resolver<'_> {
    pub(super) fn check_http1(&self, file: &Field<Http1File>, settings: &Http1Settings) {
        let Field::Written(At { value: file, .. }) = file else { return };
        let (header, buffer) = (Size(settings.max_header_bytes), Size(settings.max_buffer_bytes));
        if header > buffer {
            let location = file.header.location().or_else(|| file.buffer.location());
            let message = format!("a header of {header} does not fit into a buffer of {buffer}");
            self.note(&location.cloned().unwrap_or_default(), message);
        }
    }

    /// The default of `max_stream_window` is at least `stream_window`.
    pub(super) fn resolve_http2(&self, file: &Field<Http2File>, settings: &mut Http2Settings) {
        let Field::Written(At { value: file, .. }) = file else { return };
        let (least, most) = (settings.stream_window, &mut settings.max_stream_window);
        if file.max_stream_window.location().is_none() {
            *most = least.max(*most);
        }
        if *most < least {
            let location =
                file.max_stream_window.location().or_else(|| file.stream_window.location());
            let (least, most) = (Size(least as usize), Size(*most as usize));
            let message =
                format!("stream_window ({least}) is larger than max_stream_window ({most})");
            self.note(&location.cloned().unwrap_or_default(), message);
        }
    }
}
