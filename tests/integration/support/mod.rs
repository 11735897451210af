//! What the tests stand on: processes with an end, clients without mercy, and waits with a deadline.

pub(crate) mod auditor;
mod body;
mod client;
mod cluster;
mod cutter;
pub(crate) mod echo;
mod extended_connect;
mod fake_sentinel;
pub(crate) mod frame_backend;
pub(crate) mod frames;
mod gateway;
pub(crate) mod h2_site;
mod http1;
mod http2;
mod machine;
mod metrics;
pub(crate) mod nginx;
mod process;
pub(crate) mod recorder;
mod redis;
mod relay;
mod sentinels;
mod site;
mod sse;
mod stream;
mod tls;
mod upstream;
mod witness;
mod yaml;

pub(crate) use body::{Body, read_exactly};
pub(crate) use client::{Io, Request, Response, Via};
pub(crate) use cluster::ClusterSet;
pub(crate) use cutter::{Cut, Cutter};
pub(crate) use extended_connect::extended_connect;
pub(crate) use fake_sentinel::{FakeReply, FakeSentinel};
pub(crate) use frames::{Frame, FrameConnection};
pub(crate) use gateway::{Gateway, GatewayBuilder};
pub(crate) use http1::read_head;
pub(crate) use http2::Http2;
pub(crate) use machine::{kernel_tcp_bytes, unread_bytes_of, unsent_bytes, waiting_bytes};
pub(crate) use metrics::Metrics;
pub(crate) use process::{Output, Process, Program, free_port, run};
pub(crate) use redis::Redis;
pub(crate) use relay::{Relay, Slowness};
pub(crate) use sentinels::{Sentinel, SentinelSet};
pub(crate) use site::Site;
pub(crate) use sse::{Block, Event, Parser};
pub(crate) use stream::EventStream;
pub(crate) use tls::{Pem, TlsClient, localhost, shown_certificate};
pub(crate) use upstream::{Call, Upstream};
pub(crate) use witness::Witness;
pub(crate) use yaml::indent;

use std::future::Future;
use std::time::Duration;

/// A bound for what should happen at once, generous because the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Tells what was measured: shown with `--no-capture`.
pub(crate) fn measured(what: &str) {
    #[expect(clippy::print_stderr, reason = "for whoever asks")]
    {
        eprintln!("measured: {what}");
    }
}

/// Waits for `future`, and fails naming `what` when `limit` is over.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Asks `check` again and again until it says yes, and fails naming `what` when `limit` is over.
pub(crate) async fn eventually(limit: Duration, what: &str, mut check: impl AsyncFnMut() -> bool) {
    within(limit, what, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
