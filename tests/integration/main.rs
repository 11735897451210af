//! The gateway, whole: the real binary on free ports of the loopback interface, in front of a real
//! `redis-server`, read by clients of our own.
//!
//! Nothing in here uses the crate: what a test knows is what a user can know. The modules, in
//! reading order:

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends, and says where")]

/// What the tests stand on: the processes, the clients, and waiting with a deadline.
mod support;

/// What a backend is told of a body is what it gets.
mod announced;
/// Who may listen, to what, and until when.
mod auth;
/// Ways around it.
mod auth_attacks;
/// Every method of authentication, with credentials of every kind, on every kind of route.
mod auth_matrix;
/// WebSockets with a credential, and without.
mod auth_upgrades;
/// One connection over HTTP/2 to a backend, and many clients that share it.
mod backend_http2;
/// nginx and Node as backends over HTTP/2, and when they close a connection.
mod backend_servers;
/// Event streams that the backend writes itself.
mod backend_streams;
mod backend_windows;
/// Names and passwords.
mod basic;
/// Bodies of any size, in constant memory.
mod bodies;
mod bus_logs;
/// Several certificates on one listener, and their renewal.
mod certificates;
/// Pages of other origins.
mod cors;
/// Responses that come before the upload is complete.
mod early_answers;
/// The `envelope` format: names, ids and `retry` from the publisher.
mod envelope;
/// Several gateways at one Redis.
mod fleet;
/// Patterns that are followed before anybody asks.
mod follow;
/// A backend decides who may listen.
mod forward_auth;
/// To any kind of upstream, in time, and with the truth of where a request comes from.
mod forwarding;
/// Clients that close their sending side behind a request.
mod half_close;
/// Streams that the backend hands over.
mod handover;
/// Requests that two parties could read differently.
mod hostile;
/// Requests sent before the response to the one before.
mod http1_pipelining;
/// What comes before a response, and in its first line.
mod interim;
/// Keys from a URL.
mod jwks;
/// Event streams of a backend that survive their readers.
mod kept;
/// Kept connections to a backend that die as a request is sent.
mod kept_connections;
/// Any payload arrives as it was published: a property.
mod payloads;
/// Everything that is not a stream goes to the backend.
mod proxy;
/// What is published over HTTP.
mod publishing;
/// Credentials that are taken back, on every gateway.
mod revoking;
/// Hosts, methods, paths, and the statuses of what leads nowhere.
mod routes;
/// What the model of many streams says, and a deploy of all gateways.
mod scale;
/// Official SDKs that read a backend's streams, through a proxy route.
mod sdk_clients;
/// The libraries that read streams: every event, once, and no other.
mod stream_clients;
/// What a stream looks like on the wire, from its head to its events.
mod streams;
/// Channels: subscribed with the first listener, left some time after the last; what may be named.
mod subscriptions;
/// Answers through the gateway, and directly.
mod transparency;
/// The same stream over HTTP/1.1, HTTP/2, TLS 1.2, TLS 1.3 and clear text.
mod transports;
/// WebSockets and other upgrades over HTTP/1.1.
mod upgrades;
/// WebSockets over HTTP/2.
mod websockets_http2;

/// Messages over the limit.
mod big_events;
/// Each subscriber gets every message, in order, once.
mod completeness;
/// Comments on quiet streams, and only there.
mod keep_alives;
/// Thousands of streams that the backend writes itself.
mod many_backend_streams;
/// Event streams of a backend that several readers have together.
mod shared;
/// One who does not read, beside those who do.
mod slow_readers;

/// A Redis Cluster.
mod cluster;
/// What can befall Redis, row by row.
mod fault_matrix;
/// How much the kept events take.
mod histories;
mod history_memory;
/// Ids over several Redis Streams, and who comes back with one.
mod positions;
mod presence;
/// The ways to reach Redis: TLS, a unix socket, a user with a password.
mod recorded;
mod redis_connections;
/// Redis away, back, deaf.
mod redis_failures;
/// What Redis refuses: in the log, and told by `check --connect`.
mod redis_rights;
/// Redis Streams: live, resumed, over restarts, trimmed, begun anew.
mod redis_streams;
mod redis_streams_moved;
/// A Redis that says more than it was asked.
mod reply_desync;
/// Clients that come back, where something could be lost without a word.
mod resuming;
/// Subscriptions that Redis has forgotten.
mod self_check;
/// Redis whose master is named by sentinels.
mod sentinel;
/// Sentinels that do not agree, or name what cannot be used.
mod sentinel_votes;
/// Several servers instead of one: named ones, and shards.
mod servers;
/// Clients that come and go while what is behind them fails.
mod storms;

/// Attacks on a gateway that meanwhile serves fifty others.
mod attacks;
/// Connections that send nothing, or not enough, or too much.
mod deadlines;
/// What others say of it: sslyze, slowhttptest, another HTTP/2.
mod judges;
/// Tickets of TLS, and how long they are good for.
mod tickets;

/// Frames of HTTP/2, and the reaction that the standard demands: a table.
mod http2_table;

/// Requests over HTTP/2 that are none: answered on their streams, and held against nobody.
mod http2_refusals;

/// What streams of events wait for beside a download over HTTP/2.
mod http2_latency;

/// What a connection of HTTP/2 holds for what it sends.
mod http2_memory;

/// Bodies that clients send over HTTP/2.
mod http2_uploads;

/// HTTP/2 settings as a peer sees them, and what happens beyond them.
mod http2_limits;
/// Each limit, hit: what is told, and what is counted.
mod limits;

/// A line for each request, and what must not be in it.
mod access_log;
/// Metrics, health, and who may ask.
mod admin;
/// What `check` finds, `run` finds too.
mod check;
/// Arguments, exit codes, messages.
mod command_line;
/// Mistakes in gateway.yaml.
mod configuration;
/// `ssegate doctor`.
mod doctor;
/// The orderly end of many streams, and of old ones.
mod drain;
/// A crowd that comes back somewhere else.
mod drain_resume;
/// The level of the log, changed while it runs.
mod log_level;
/// A log that nobody reads.
mod log_output;
/// A real Prometheus.
mod prometheus;
/// The configuration and the certificates, read again.
mod reload;
/// `ssegate reload`, and `POST /reload`.
mod reload_command;
/// What must not come out, and where nothing is written.
mod secrets;
/// Pipes, devices and huge files in place of the configuration's.
mod special_files;
/// The status page, live.
mod status_page;
/// The orderly end.
mod stop;
/// `ssegate sub`.
mod sub_command;
/// Another process on the same sockets.
mod takeover;
/// What an operator is told when something is wrong, and where.
mod troubles;

/// The units for systemd.
mod deploy;
/// The PHP publishers of `examples/php`.
mod php_examples;
/// The commands that the README and the guide show.
mod readme;
