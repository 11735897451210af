//! `limits`, `timeouts`, `http1`, `http2` and `sockets`.

use ssegate_http2::Http2Settings;
use ssegate_strict_yaml::{Count, Limit, Size, Time, TimeOrZero, mapping};

use crate::config::global::GlobalSettings;
use crate::server::{ConnectionSettings, Http1Settings};

/// The highest limit of header fields; an `http::HeaderMap` cannot hold many more.
const MAX_HEADER_FIELDS: usize = 30_000;

/// The connection window starts at 65,535 bytes and cannot be reduced (RFC 9113, section 6.9.2).
const MIN_CONNECTION_WINDOW: Size = Size(65_535);

/// Linux doubles the value, and allocates at least 4,608 bytes (SO_SNDBUF in socket(7)).
const MAX_SEND_BUFFER: Size = Size(Size::MAX_LENGTH.0 / 2);

mapping! {
    /// Limits over all listeners.
    #[schemars(rename = "Limits")]
    pub(crate) struct LimitsFile sets GlobalSettings {
        /// The most connections at the same time. One more is closed as soon as it is accepted. Never more
        /// than the file descriptors allow.
        connections: Count => connections.max_connections,
        /// The most connections of one client address (an IPv6 /64 network) at the same time. One more is
        /// closed.
        connections_per_address: Limit<usize> => connections.per_client.connections,
        /// The most new connections of one client address per second. One more is closed.
        new_connections_per_address: Limit<usize> => connections.per_client.new_connections,
        /// TLS handshakes that a shard processes before it serves its streams again.
        handshakes: Count => connections.max_handshakes,
        /// The most requests of one client address per second. One more gets 429; a stream is closed with
        /// a `retry`.
        requests_per_address: Limit<usize> => connections.per_client.requests,
        /// The most channels per second that one client address subscribes to and that have no other
        /// subscriber. A stream that needs one more is closed with a `retry`.
        new_channels_per_address: Limit<usize> => connections.per_client.new_channels,
        /// The longest path and query of a request. A longer one gets 414.
        uri: Size => requests.max_uri_bytes in Size::BYTE..=Size::MAX_LENGTH,
        /// The largest body of a request. A larger one gets 413.
        body: Limit<Size> => max_body,
        /// The memory of all connections of the embedded bus: incomplete commands, and output that is not
        /// read. Above it the most stalled connection is closed.
        bus_memory: Size,
        /// The memory of all streams on the embedded bus. Above it, entries are refused.
        bus_streams: Size,
        /// The memory of the queues of all slow clients. Above it the clients with the largest queues are
        /// closed.
        queue_memory: Size => hub.queue_memory in Size::BYTE..=Size::MAX,
        /// What all clients together may upload over HTTP/2 beyond `connection_window`, before backends
        /// have read it.
        upload_memory: Size => connections.upload_memory in Size::ZERO..=Size::MAX,
    }
}

mapping! {
    /// Timeouts of client connections.
    #[schemars(rename = "Timeouts")]
    pub(crate) struct TimeoutsFile sets ConnectionSettings {
        /// From accept to the first complete request, including the TLS handshake.
        first_request: Time => first_request_timeout,
        /// An HTTP/2 connection without a stream is closed after this.
        idle: Time => idle_timeout,
        /// How long the rest of a request is read and discarded after an early response, so that the client
        /// gets the response. 0s: not at all.
        lingering_close: TimeOrZero => lingering_close,
    }
}

mapping! {
    /// Limits and timeouts of HTTP/1.1.
    #[schemars(rename = "Http1")]
    pub(crate) struct Http1File sets Http1Settings {
        /// The longest time for the header of a request, and the idle timeout between two requests.
        header_timeout: Time => header_read_timeout,
        /// The largest request line and header. A larger one gets 431.
        header: Size => max_header_bytes in Size::kib(1)..=Size::MAX_LENGTH,
        /// A request whose client has closed its sending side is cancelled when nothing could be written to
        /// it for this long. 0s: at once.
        half_close: TimeOrZero => half_close,
        /// The most fields in the header of a request. More get 431.
        #[schemars(range(min = 1, max = 30_000))]
        header_fields: usize => max_header_fields in 1..=MAX_HEADER_FIELDS,
        /// The largest read buffer and write buffer of a connection.
        // hyper panics below 8 KiB (`http1::Builder::max_buf_size`).
        buffer: Size => max_buffer_bytes in Size::kib(8)..=Size::MAX_LENGTH,
    }
}

mapping! {
    /// Limits and timeouts of HTTP/2.
    #[schemars(rename = "Http2")]
    pub(crate) struct Http2File sets Http2Settings {
        /// The most streams on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). Chromium opens at most 256.
        #[schemars(range(min = 1))]
        max_concurrent_streams: u32 => max_concurrent_streams in 1..=u32::MAX >> 1,
        /// The largest header of a request (SETTINGS_MAX_HEADER_LIST_SIZE).
        header_list: Size => max_header_list_bytes in Size::kib(1)..=Size::MAX_LENGTH,
        /// The initial flow-control window of a stream.
        stream_window: Size => stream_window in Size::kib(1)..=Size::MAX_LENGTH,
        /// The largest flow-control window of a stream. The window grows where the body is read without
        /// delay.
        max_stream_window: Size => max_stream_window in Size::kib(1)..=Size::MAX_LENGTH,
        /// The flow-control window of a connection.
        connection_window: Size => connection_window in MIN_CONNECTION_WINDOW..=Size::MAX_LENGTH,
        /// The longest time for a complete header block, and for any frame but DATA.
        header_timeout: Time => header_timeout,
        /// A PING is sent after this long without a frame.
        keep_alive_interval: Time => keep_alive_interval,
        /// The connection is closed when the ACK of a PING takes longer than this.
        keep_alive_timeout: Time => keep_alive_timeout,
    }
}

mapping! {
    /// The sockets of clients.
    #[schemars(rename = "Sockets")]
    pub(crate) struct SocketsFile sets ConnectionSettings {
        /// SO_SNDBUF: what the kernel holds for a client that does not read. Four times as much where large
        /// bodies are forwarded.
        send_buffer: Size => send_buffer in Size::kib(4)..=MAX_SEND_BUFFER,
        /// Connections of one listener that wait in the kernel to be accepted (listen(2)). Linux keeps at
        /// most `net.core.somaxconn`. A client that finds no room tries again after a second.
        #[schemars(range(min = 1, max = 65_535))]
        backlog: u16 => backlog in 1..=u16::MAX,
    }
}
