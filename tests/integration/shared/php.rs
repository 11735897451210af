//! php-fpm behind nginx: a script that writes an event each second holds one worker, however many read.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::get;
use crate::support::nginx::Nginx;
use crate::support::{
    EventStream, Gateway, Http2, Process, Program, Redis, Request, SOON, Via, eventually,
    free_port, measured, within,
};

const SCRIPT: &str = r#"<?php
header('Content-Type: text/event-stream');
while (ob_get_level()) ob_end_flush();
set_time_limit(0);
for ($i = 1; !connection_aborted(); $i++) {
    echo "id: $i\ndata: {$_SERVER['REQUEST_URI']} ", getmypid(), "\n\n";
    flush();
    sleep(1);
}
"#;

/// What one HTTP/2 connection carries.
const STREAMS_OF_A_CONNECTION: usize = 100;

/// php-fpm with two workers, and nginx in front of it.
struct PhpSite {
    nginx: Nginx,
    _fpm: Process,
    _dir: TempDir,
}

impl PhpSite {
    async fn start() -> Self {
        let found = std::fs::read_dir("/usr/sbin").unwrap().filter_map(|entry| {
            let path: PathBuf = entry.unwrap().path();
            path.to_str()?.starts_with("/usr/sbin/php-fpm").then_some(path)
        });
        let program = found.max().expect("missing: apt-get install php-fpm");
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let path = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("stream.php"), SCRIPT).unwrap();
        let pool = format!(
            "[global]\nerror_log = {path}/fpm.log\n[www]\nlisten = 127.0.0.1:{port}\n\
             user = root\npm = static\npm.max_children = 2\npm.status_path = /status\n\
             request_terminate_timeout = 120s\n"
        );
        // As another user than root, php-fpm does not take the line.
        let is_root = rustix::process::getuid().is_root();
        let pool = if is_root { pool } else { pool.replace("user = root\n", "") };
        std::fs::write(dir.path().join("fpm.conf"), pool).unwrap();
        let mut fpm =
            Program::new(program).args(["-F", "-R", "-y", &format!("{path}/fpm.conf")]).start();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        eventually(SOON, "php-fpm listens", async || {
            assert!(fpm.ended().is_none(), "php-fpm has ended:\n{}", fpm.log());
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        let pass = format!(
            "fastcgi_pass 127.0.0.1:{port}; fastcgi_buffering off; fastcgi_param REQUEST_METHOD $request_method; \
             fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_URI $request_uri; \
             fastcgi_param SERVER_PROTOCOL $server_protocol;"
        );
        let nginx = Nginx::start(&format!(
            "location = /status {{ {pass} fastcgi_param SCRIPT_NAME /status; fastcgi_param SCRIPT_FILENAME /status; }}
             location / {{ {pass} fastcgi_param SCRIPT_FILENAME {path}/stream.php; }}"
        ))
        .await;
        Self { nginx, _fpm: fpm, _dir: dir }
    }

    /// The workers that are busy, without the one that says so. With none left for that it waits for ever.
    async fn busy(&self) -> usize {
        let asked = Request::get("/status").send(Via::Http1, self.nginx.address());
        let status = within(SOON, "a worker is left", asked).await.text().await;
        let active = status.lines().find_map(|line| line.strip_prefix("active processes:"));
        active.unwrap_or_else(|| panic!("{status}")).trim().parse::<usize>().unwrap() - 1
    }
}

/// Opens so many readers: half of them over HTTP/1.1, half over HTTP/2.
async fn open_all(gateway: &Gateway, count: usize) -> Vec<EventStream> {
    let mut readers = Vec::with_capacity(count);
    let mut connection = None;
    for number in 0..count {
        let request = get("/clock");
        let response = if number < count / 2 {
            gateway.send(Via::Http1, request).await
        } else {
            if connection.is_none() || number % STREAMS_OF_A_CONNECTION == 0 {
                connection = Some(Http2::connect(Via::H2c, gateway.address("http")).await);
            }
            connection.as_ref().unwrap().send(request).await
        };
        assert_eq!(response.status, 200);
        readers.push(response.stream());
    }
    readers
}

/// Reads from all of them until each has had three events in a row, of one worker.
async fn one_worker_serves(count: usize) {
    let redis = Redis::start().await;
    let php = PhpSite::start().await;
    let gateway = Gateway::build(&redis)
        .settings("limits: { connections: 20000 }")
        .route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{}\" }}\n  share: {{ leave: 0s }}\n",
            php.nginx.address()
        ))
        .start()
        .await;
    let mut readers = open_all(&gateway, count).await;
    assert_eq!(php.busy().await, 1);
    let mut workers = Vec::new();
    for reader in &mut readers {
        let mut last: Option<u64> = None;
        for _ in 0..3 {
            let event = reader.next_event().await;
            let id: u64 = event.id.parse().unwrap();
            assert!(last.is_none_or(|last| last + 1 == id), "{last:?} and then {id}");
            last = Some(id);
            workers.push(event.data);
        }
    }
    workers.sort();
    workers.dedup();
    assert_eq!(workers.len(), 1, "{workers:?}");
    assert!(workers[0].starts_with("/clock "), "{workers:?}");
    let metrics = gateway.metrics().await;
    let readers_now = u32::try_from(count).unwrap();
    assert_eq!(metrics.sum("ssegate_shared_readers", &[]), f64::from(readers_now));
    assert_eq!(metrics.sum("ssegate_shared_upstreams", &[]), 1.0);
    assert_eq!(php.busy().await, 1);
    measured(&format!(
        "{count} readers of one php-fpm worker: {} MiB, {:?} of CPU",
        gateway.resident_bytes() >> 20,
        gateway.cpu_time()
    ));
    drop(readers);
    // PHP notices with its next event.
    eventually(SOON, "the worker is free", async || php.busy().await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs php-fpm and nginx: run by tests/run"]
async fn hundreds_of_readers_hold_one_worker() {
    one_worker_serves(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "thousands of streams: run by tests/run --full"]
async fn long_thousands_of_readers_hold_one_worker() {
    one_worker_serves(5_000).await;
}
