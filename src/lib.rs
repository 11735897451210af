//! ssegate: a reverse-proxy gateway for Server-Sent Events.
//!
//! It listens to the Redis channels that backends publish to, and relays each message as an SSE
//! frame to every browser that asked for the channel, over HTTP/2 with TLS. Everything else it
//! forwards to the backend.
//!
//! # The way of an event
//!
//! ```text
//!  Redis / the embedded bus                source    listens, reads logs, reconnects for ever
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
//! There is one way back: a shard wishes to join or leave a channel, and the hub wishes its source
//! to follow or leave a subscription. Of wishes for one thing the newest counts.
//!
//! # Threads
//!
//! One thread has the source, the hub and the acceptors, another the admin listener. Beside them runs
//! one for each shard, with its own event loop, its own connections and its own subscribers, in plain
//! cells without locks. Events cross over in batches. Nothing on this way waits: what is full is
//! dealt with, as its owner says, and told.
//!
//! # The modules, in reading order
//!
//! A module names only modules below it (`tests/layers.rs` checks that).
//!
//! | module | does | does not know |
//! |---|---|---|
//! | [`gateway`] | wiring and life: open, serve, stop | what a request means |
//! | [`config`] | gateway.yaml to the settings that each stage declares | what the stages do with them |
//! | [`admin`] | metrics endpoint, health, status page | streams |
//! | [`service`] | one request, start to finish; `rejection` is the one place that picks statuses | sockets, Redis |
//! | [`proxy`] | forwards what is not ours to a backend | events |
//! | [`source`] | where events come from: Redis pub/sub and Streams, the embedded bus; payload formats | HTTP |
//! | [`route`] | request to route, route to channels | bodies, sockets |
//! | [`grip`] | the headers by which a backend hands a stream over | what becomes of the stream |
//! | [`hub`] | who gets which event: channels, shards, subscribers, queues | Redis, HTTP |
//! | [`sse`] | the text of a stream: encode, parse | channels, time |
//! | [`server`] | sockets: listeners, TLS, connections and their deadlines | channels, routes |
//! | [`tls_client`] | whom we trust when we connect to others | why we connect |
//! | [`metrics`] | every metric, recorded by methods named after facts | the stages |
//! | [`health`] | what is well and what is not: readiness, backends, certificates | who asks |
//! | [`log_limit`] | how often the same thing is logged | what it is |
//! | [`query`] | the query of a URL | what it is for |
//! | [`event`] | the values that flow: event, channel name, topic | where they come from and go |
//!
//! The commands (`run`, `dev`, `pub`, `sub`, …) belong to the binary, in `cli`.

pub mod admin;
pub mod config;
pub mod event;
pub mod gateway;
pub mod grip;
pub mod health;
pub mod hub;
pub mod log_limit;
pub mod metrics;
pub mod proxy;
pub mod query;
pub mod route;
pub mod server;
pub mod service;
pub mod source;
pub mod sse;
pub mod tls_client;
