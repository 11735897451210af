//! Sockets: listeners, TLS, connections and their deadlines. Knows no channel and no route.
//!
//! Accepting: [`listener`] opens sockets and hands each accepted connection to the least loaded
//! shard. [`descriptors`] pauses that when file descriptors run out, [`port_holder`] finds the
//! program that occupies a port, and [`own_address`] checks whether this machine has an address.
//!
//! Connections: [`shard_server`] owns the connections of one core and enforces their deadlines,
//! [`shard_context`] has what they share, [`limits`] what those of all cores share, and [`clients`]
//! the limits of each client address. [`connection`] serves one connection from accept
//! to close, and [`carrier`] takes over when it carries an event stream over HTTP/1.1. [`tls`],
//! [`tls_error`] and [`certificate`] are its TLS, [`proxy_protocol`] reads the client's address from a load balancer,
//! [`transport`] is its socket, and [`socket_state`] what the socket and the task share.
//!
//! Requests: a [`handler`] responds to them. [`http1`] is HTTP/1.1 around hyper; HTTP/2 is a crate of its own ([`ssegate_http2`]), with
//! [`upload_memory`] for its windows. [`request_body`] and [`interim`] are the same over both.
//! [`body_error`] is any error of theirs, [`running`] a request in progress, [`contain`] limits what a panic takes down. [`date`] and
//! [`event_stream`] are about response headers. [`settings`] are those of all of it.

pub mod body_error;
pub mod carrier;
pub mod certificate;
pub mod clients;
pub mod connection;
pub mod contain;
mod date;
pub mod descriptors;
pub mod event_stream;
pub mod handler;
pub(crate) mod http1;
pub mod interim;
pub mod limits;
pub mod listener;
pub mod own_address;
pub mod port_holder;
mod proxy_protocol;
pub mod request_body;
mod running;
mod settings;
mod shard_context;
pub mod shard_server;
mod socket_state;
pub mod state_dir;
pub mod tls;
pub mod tls_error;
mod transport;
pub(crate) mod unread;
pub mod upload_memory;

pub use self::settings::{
    CertificateFiles, ConnectionSettings, Http1Settings, ListenerSettings, TlsSettings,
};
