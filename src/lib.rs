//! ssegate: a reverse-proxy gateway for Server-Sent Events.
//!
//! It subscribes to the Redis channels that backends publish to, and relays each message as an SSE
//! frame to every browser that subscribed to the channel, over HTTP/2 with TLS. It forwards all
//! other requests to the backend.
//!
//! # The path of an event
//!
//! ```text
//!  Redis / the embedded bus                source    subscribes, reads streams, reconnects forever
//!            │ Event
//!            ▼
//!           Hub                            hub       numbers it, encodes its frame once
//!   ┌────────┼────────┐                              one inbox per shard
//!   ▼        ▼        ▼
//! Shard    Shard    Shard                  hub       finds the channel's subscribers on this core
//!   │ frame (shared bytes)
//!   ▼
//! Subscriber ─► StreamBody ─┬─► carrier ─┬─► rustls ─► socket  hub, service, server
//!                 (HTTP/2)  └─► http2 ───┘
//! ```
//!
//! Subscriptions flow the other way: a shard asks the hub to join or leave a channel, and the hub
//! asks its source to subscribe or unsubscribe. When several such requests for one channel are
//! waiting, only the newest counts.
//!
//! # Threads
//!
//! One thread runs the source, the hub and the acceptors; another the admin listener. Each shard
//! has a thread of its own with an event loop, connections and subscribers, in plain cells without
//! locks. Events cross threads in batches. Nothing on this path blocks: where a bound is reached,
//! the configured policy applies (drop or disconnect), and a metric counts it.
//!
//! # The modules, in reading order
//!
//! A module names only modules below it (`tests/structure/layers.rs` checks that).
//!
//! | module | does | does not know |
//! |---|---|---|
//! | [`gateway`] | wiring and life cycle: open, serve, stop | what a request means |
//! | [`config`] | gateway.yaml to the settings that each stage declares | what the stages do with them |
//! | [`admin`] | metrics endpoint, health checks, status page | streams |
//! | [`service`] | one request, start to finish; only `rejection` picks error statuses | sockets, Redis |
//! | [`proxy`] | forwards requests to a backend | events |
//! | [`source`] | where events come from: Redis pub/sub and Streams, the embedded bus | HTTP |
//! | [`route`] | request to route, route to channels | bodies, sockets |
//! | [`webhook`] | tells a server what has happened: signed, in order, again after a failure | who has something to tell |
//! | [`grip`] | the headers by which a backend hands a stream over | what happens to the stream |
//! | [`auth`] | who may make a request: its credential, and what it says | routes, channels, responses |
//! | [`server`] | sockets: listeners, TLS, connections and their deadlines | channels, routes |
//! | [`http_client`] | one request over a connection of its own | what is fetched, and why |
//! | [`dial`] | outgoing connections: resolve, connect, TLS handshake | what is sent |
//! | [`tls_client`] | which server certificates outgoing connections trust | why we connect |
//! | [`log`] | the level of the log, and the access log | where lines are written |
//! | [`metrics`] | every metric, recorded by methods named after facts | the stages |
//! | [`health`] | readiness, backends, certificates: what works and what does not | who asks |
//! | [`log_limit`] | rate-limits repeated log lines | what they say |
//! | [`upstream_address`] | the address of a backend, and how its certificate is verified | who connects |
//! | [`query`] | the query of a URL | what it is for |
//! | [`bounded_file`] | reads files that the configuration names, without waiting | what is in them |
//! | [`hex`] | bytes as hexadecimal digits | what they are |
//!
//! What stands alone is a crate of its own, in `crates/`, and cannot name anything above:
//! [`ssegate_hub`], which stream gets which event; [`ssegate_format`], payload formats;
//! [`ssegate_sse`], the text of a stream; [`ssegate_resp`], the protocol of Redis;
//! [`ssegate_http2`], HTTP/2 for responses that are streams; [`ssegate_bus`], the embedded bus;
//! [`ssegate_strict_yaml`], YAML to settings with every mistake at once; [`ssegate_auth`], credentials,
//! verified.
//!
//! The commands (`run`, `dev`, `pub`, `sub`, …) belong to the binary, in `cli`.

pub mod admin;
pub mod auth;
pub mod bounded_file;
pub mod config;
pub mod dial;
pub mod gateway;
#[cfg(test)]
mod generated_page;
pub mod grip;
pub mod health;
pub mod hex;
pub mod http_client;
pub mod log;
pub mod log_limit;
pub mod metrics;
pub mod proxy;
pub mod query;
pub mod route;
pub mod server;
pub mod service;
pub mod source;
pub mod tls_client;
pub mod upstream_address;
pub mod webhook;
