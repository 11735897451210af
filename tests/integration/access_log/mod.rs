//! The access log: one line for each request, two for each stream, and no secret in any.

mod bounds;
mod left;
mod requests;
mod streams;

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{Gateway, GatewayBuilder, Process, Redis, SOON, eventually, free_port};

/// A gateway that logs every request.
fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).settings("log: { access: all, identity: plain }")
}

/// The lines about targets that begin so.
fn lines(gateway: &Gateway, target: &str) -> Vec<Value> {
    let lines = gateway.stdout().into_iter();
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).expect(&line));
    lines.filter(|line| line["path"].as_str().unwrap_or_default().starts_with(target)).collect()
}

/// Waits for the first line of this kind about targets that begin so.
async fn line(gateway: &Gateway, event: &str, target: &str) -> Value {
    let mut found = None;
    eventually(SOON, &format!("{event} of {target:?}"), async || {
        let mut lines = lines(gateway, target).into_iter();
        found = lines.find(|line| line["event"] == event);
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// A gateway whose log may have any form.
struct InAnyForm {
    process: Process,
    http: SocketAddr,
    _dir: TempDir,
}

impl InAnyForm {
    /// Starts it, and waits until it serves.
    async fn start(gateway: GatewayBuilder) -> Self {
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let mut process = gateway.port(port).program(dir.path(), "run").start();
        let http = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(SOON, "it serves", async || {
            assert_eq!(process.ended(), None, "{}", process.log());
            TcpStream::connect(http).await.is_ok()
        })
        .await;
        Self { process, http, _dir: dir }
    }
}
