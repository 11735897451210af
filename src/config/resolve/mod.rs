//! Resolves the parsed file to the settings of the stages, and notes every mistake.
//!
//! Owns the meaning of a missing key, the range of each value, and which values exclude each other.
//! Defaults are the `Default`s of the stages; those that no stage declares are constants here and in the
//! submodules. After a mistake the default is used, so that one run finds all mistakes.

mod authority;
mod backend;
mod handover;
mod listeners;
mod matches;
mod positions;
mod routes;
mod source;
mod stream;
mod template;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::hub::{HubSettings, MAX_SHARDS};
use crate::server::clients::ClientLimits;
use crate::server::{ConnectionSettings, Http1Settings, Http2Settings};
use crate::service::RequestSettings;
use crate::source::SourceLocation;

use super::error::{Mistakes, Place};
use super::field::{At, Field, Limit, OrOff};
use super::file::{File, Http1File, Http2File, LimitsFile, SocketsFile, TimeoutsFile};
use super::units::{Size, Time};
use super::{Purpose, Settings};

pub(super) use authority::upstream;
pub(super) use listeners::DEFAULT_ADMIN;
pub(super) use source::location;
pub(super) use stream::StreamDefaults;

/// The default duration of a graceful shutdown.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// The shortest duration where zero makes no sense.
const SHORTEST: Time = Time(Duration::from_millis(1));

/// The maximum of a signed 32-bit length, as socket options and HTTP/2 windows have it.
const MAX_LENGTH: usize = i32::MAX as usize;

/// The highest limit of header fields; an `http::HeaderMap` cannot hold many more.
const MAX_HEADER_FIELDS: usize = 30_000;

/// Resolves `file`. Relative paths start at `folder`. Returns `None` after a mistake that leaves no
/// usable settings; other mistakes are only noted.
pub(super) fn resolve(
    file: File,
    purpose: Purpose,
    folder: &Path,
    mistakes: &Mistakes,
) -> Option<Settings> {
    let mut resolver = Resolver {
        mistakes,
        purpose,
        folder,
        addresses: Vec::new(),
        is_source_embedded: false,
        trusts_nobody: true,
        max_body: None,
        max_header_bytes: 0,
    };
    let mut limits = file.limits.or_default();
    let (http1, http2) =
        (resolver.http1(file.http1.or_default()), resolver.http2(file.http2.or_default()));
    resolver.max_header_bytes = http1.max_header_bytes.min(http2.max_header_list_bytes as usize);
    resolver.max_body = resolver.limit(std::mem::take(&mut limits.body), None);
    let (uri, queue_memory) =
        (std::mem::take(&mut limits.uri), std::mem::take(&mut limits.queue_memory));
    let trusted_proxies = resolver.trusted_proxies(file.trusted_proxies);
    // This order decides which of two equal addresses is reported as a duplicate.
    let listeners = resolver.listeners(file.listeners);
    let admin = resolver.admin(file.admin);
    let bus_memory = std::mem::take(&mut limits.bus_memory);
    let source = resolver.source(file.redis, file.max_event_bytes, bus_memory);
    resolver.is_source_embedded = source
        .as_ref()
        .is_some_and(|source| matches!(source.location, SourceLocation::Embedded(_)));
    let sse = resolver.stream_defaults(file.sse);
    let connections = ConnectionSettings::default();
    let per_client = resolver.per_client(&mut limits);
    let (hub, requests) = (HubSettings::default(), RequestSettings::default());
    Some(Settings {
        shards: resolver.within(file.shards, default_shards(), 1, MAX_SHARDS),
        listeners,
        connections: ConnectionSettings {
            per_client,
            write_timeout: resolver.time(file.write_timeout, connections.write_timeout),
            http1,
            http2,
            trusted_proxies: trusted_proxies.clone(),
            ..resolver.connections(limits, file.timeouts.or_default(), file.sockets.or_default())
        },
        admin,
        hub: HubSettings {
            max_channels: resolver.count(file.max_channels, hub.max_channels),
            history_memory: resolver.size(file.history_memory, hub.history_memory, 1, usize::MAX),
            queue_memory: resolver.size(queue_memory, hub.queue_memory, 1, usize::MAX),
            // Set from the routes when the gateway starts.
            retention: hub.retention,
        },
        requests: RequestSettings {
            max_uri_bytes: resolver.size(uri, requests.max_uri_bytes, 1, MAX_LENGTH),
            per_client,
            trusted_proxies,
        },
        routes: resolver.routes(file.routes, &sse),
        drain: resolver.time_or_none(file.drain, DRAIN),
        drain_delay: resolver.time_or_none(file.drain_delay, Duration::ZERO),
        // Last, so that the mistakes in all other keys are noted first.
        source: source?,
    })
}

/// The number of threads that can run at once on this machine.
pub(super) fn default_shards() -> usize {
    available_parallelism().map_or(1, usize::from).min(MAX_SHARDS)
}

/// The state of resolving one file.
struct Resolver<'a> {
    mistakes: &'a Mistakes,
    purpose: Purpose,
    folder: &'a Path,
    /// The addresses to listen on, each with the path of its key.
    addresses: Vec<(SocketAddr, String)>,
    /// Whether the source is the embedded bus, which has no streams.
    is_source_embedded: bool,
    /// Whether `trusted_proxies` is empty.
    trusts_nobody: bool,
    /// The value of `limits.body`.
    max_body: Option<u64>,
    /// The longest request header that every protocol accepts, in bytes.
    max_header_bytes: usize,
}

impl Resolver<'_> {
    fn note(&self, place: &Place, message: impl Into<String>) {
        self.mistakes.note(place, message);
    }

    /// Returns the value of a required key. `what` says what to write where it is missing.
    fn required<T>(&self, field: Field<T>, parent: &Place, key: &str, what: &str) -> Option<At<T>> {
        if field.is_absent() {
            self.note(&parent.child(key), format!("missing; {what}"));
        }
        field.written()
    }

    /// Returns a value between `least` and `most`, or the default where it is absent or out of range.
    fn within<T>(&self, field: Field<T>, default: T, least: T, most: T) -> T
    where
        T: Copy + PartialOrd + Display,
    {
        let Some(At { place, value }) = field.written() else { return default };
        if value < least {
            self.note(&place, format!("must be at least {least}; this is {value}"));
        } else if value > most {
            self.note(&place, format!("must be at most {most}; this is {value}"));
        } else {
            return value;
        }
        default
    }

    fn time(&self, field: Field<Time>, default: Duration) -> Duration {
        self.within(field, Time(default), SHORTEST, Time::MAX).0
    }

    /// A duration that may be zero.
    fn time_or_none(&self, field: Field<Time>, default: Duration) -> Duration {
        self.within(field, Time(default), Time(Duration::ZERO), Time::MAX).0
    }

    fn size(&self, field: Field<Size>, default: usize, least: usize, most: usize) -> usize {
        self.within(field, Size(default), Size(least), Size(most)).0
    }

    /// A size that HTTP/2 encodes in 32 bits.
    fn length(&self, field: Field<Size>, default: u32, least: usize) -> u32 {
        let size = self.size(field, default as usize, least, MAX_LENGTH);
        u32::try_from(size).unwrap_or(default)
    }

    fn count(&self, field: Field<usize>, default: usize) -> usize {
        self.within(field, default, 1, usize::MAX)
    }

    /// A size that may be `off`.
    fn limit(&self, field: Field<Limit<Size>>, default: Option<u64>) -> Option<u64> {
        match field.value() {
            None => default,
            Some(Limit(OrOff::Off)) => None,
            Some(Limit(OrOff::On(Size(bytes)))) => Some(bytes as u64),
        }
    }

    /// A duration that may be `off`, which is the default.
    fn time_or_off(&self, field: Field<Limit<Time>>) -> Option<Duration> {
        let At { place, value: Limit(OrOff::On(time)) } = field.written()? else { return None };
        if time.0.is_zero() {
            self.note(&place, "must be at least 1ms, or off; this is 0s");
        }
        Some(time.0)
    }

    /// A number of at least 1 that may be `off`, which is the default.
    fn number_or_off(&self, field: Field<Limit<usize>>) -> Option<usize> {
        let At { place, value: Limit(OrOff::On(number)) } = field.written()? else { return None };
        if number == 0 {
            self.note(&place, "must be at least 1, or off; this is 0");
        }
        Some(number)
    }

    fn per_client(&self, limits: &mut LimitsFile) -> ClientLimits {
        let limit = |field: &mut Field<Limit<usize>>| self.number_or_off(std::mem::take(field));
        ClientLimits {
            connections: limit(&mut limits.connections_per_address),
            new_connections: limit(&mut limits.new_connections_per_address),
            requests: limit(&mut limits.requests_per_address),
            new_channels: limit(&mut limits.new_channels_per_address),
        }
    }

    fn connections(
        &self,
        limits: LimitsFile,
        timeouts: TimeoutsFile,
        sockets: SocketsFile,
    ) -> ConnectionSettings {
        // Linux doubles the value, and allocates at least 4,608 bytes (SO_SNDBUF in socket(7)).
        const BUFFER: (usize, usize) = (4 << 10, MAX_LENGTH / 2);
        let default = ConnectionSettings::default();
        ConnectionSettings {
            max_connections: self.count(limits.connections, default.max_connections),
            max_handshakes: self.count(limits.handshakes, default.max_handshakes),
            first_request_timeout: self.time(timeouts.first_request, default.first_request_timeout),
            idle_timeout: self.time(timeouts.idle, default.idle_timeout),
            lingering_close: self.time_or_none(timeouts.lingering_close, default.lingering_close),
            upload_memory: self.size(limits.upload_memory, default.upload_memory, 0, usize::MAX),
            send_buffer: self.size(sockets.send_buffer, default.send_buffer, BUFFER.0, BUFFER.1),
            ..default
        }
    }

    fn http1(&self, file: Http1File) -> Http1Settings {
        let default = Http1Settings::default();
        let header_place = file.header.place().or_else(|| file.buffer.place()).cloned();
        let settings = Http1Settings {
            header_read_timeout: self.time(file.header_timeout, default.header_read_timeout),
            half_close: self.time_or_none(file.half_close, default.half_close),
            max_header_bytes: self.size(file.header, default.max_header_bytes, 1 << 10, MAX_LENGTH),
            max_header_fields: self.within(
                file.header_fields,
                default.max_header_fields,
                1,
                MAX_HEADER_FIELDS,
            ),
            // hyper panics below 8 KiB (`http1::Builder::max_buf_size`).
            max_buffer_bytes: self.size(file.buffer, default.max_buffer_bytes, 8 << 10, MAX_LENGTH),
        };
        let (header, buffer) = (settings.max_header_bytes, settings.max_buffer_bytes);
        if header > buffer {
            let (header, buffer) = (Size(header), Size(buffer));
            let message = format!("a header of {header} does not fit into a buffer of {buffer}");
            self.note(&header_place.unwrap_or_default(), message);
        }
        settings
    }

    fn http2(&self, file: Http2File) -> Http2Settings {
        // The connection window starts at 65,535 bytes and cannot be reduced (RFC 9113, section 6.9.2).
        const LEAST_CONNECTION_WINDOW: usize = 65_535;
        let default = Http2Settings::default();
        let window_place = file.max_stream_window.place().or_else(|| file.stream_window.place());
        let window_place = window_place.cloned();
        let stream_window = self.length(file.stream_window, default.stream_window, 1 << 10);
        let most = default.max_stream_window.max(stream_window);
        let max_stream_window = self.length(file.max_stream_window, most, 1 << 10);
        if max_stream_window < stream_window {
            let (least, most) = (Size(stream_window as usize), Size(max_stream_window as usize));
            let message =
                format!("stream_window ({least}) is larger than max_stream_window ({most})");
            self.note(&window_place.unwrap_or_default(), message);
        }
        Http2Settings {
            max_concurrent_streams: self.within(
                file.max_concurrent_streams,
                default.max_concurrent_streams,
                1,
                u32::MAX >> 1,
            ),
            max_header_list_bytes: self.length(
                file.header_list,
                default.max_header_list_bytes,
                1 << 10,
            ),
            stream_window,
            max_stream_window,
            connection_window: self.length(
                file.connection_window,
                default.connection_window,
                LEAST_CONNECTION_WINDOW,
            ),
            header_timeout: self.time(file.header_timeout, default.header_timeout),
            keep_alive_interval: self.time(file.keep_alive_interval, default.keep_alive_interval),
            keep_alive_timeout: self.time(file.keep_alive_timeout, default.keep_alive_timeout),
        }
    }
}
