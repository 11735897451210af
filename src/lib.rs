//! ssegate: a reverse-proxy gateway for Server-Sent Events.

pub mod admin;
pub mod config;
pub mod event;
pub mod gateway;
pub mod hub;
pub mod route;
pub mod server;
pub mod source;
pub mod sse;
