//! ssegate: a reverse-proxy gateway for Server-Sent Events.

pub mod admin;
pub mod config;
pub mod event;
pub mod gateway;
pub mod health;
pub mod hub;
pub mod metrics;
pub mod proxy;
pub mod route;
pub mod server;
pub mod service;
pub mod source;
pub mod sse;
pub mod tls_client;
