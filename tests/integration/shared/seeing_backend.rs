//! A backend that writes into each stream what it has seen of the request: every field, and the body.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The event that it writes first, and each time that it is told to.
fn event(name: &str, seen: &str) -> String {
    let mut text = format!("event: {name}\n");
    for line in seen.lines() {
        text.push_str(&format!("data: {line}\n"));
    }
    text.push_str("data: that is all\n\n");
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// What came at one path.
#[derive(Default)]
struct At {
    requests: usize,
    /// With what was seen of each.
    streams: Vec<(TcpStream, String)>,
}

type Streams = HashMap<String, At>;

/// It listens as long as it is there.
pub(super) struct SeeingBackend {
    address: SocketAddr,
    streams: Arc<Mutex<Streams>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for SeeingBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SeeingBackend {
    /// Listens. `answers` are the further header lines for paths that begin so; `{n}` in them is the number of
    /// the request at its path, and `{origin}` its origin.
    pub(super) async fn start(answers: Vec<(String, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(Mutex::new(Streams::new()));
        let (all, answers) = (Arc::clone(&streams), Arc::new(answers));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                drop(tokio::spawn(respond(socket, Arc::clone(&answers), Arc::clone(&all))));
            }
        });
        Self { address, streams, task }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came for paths that begin so.
    pub(super) fn requests(&self, path: &str) -> usize {
        let streams = self.streams.lock().unwrap();
        streams.iter().filter(|(at, _)| at.starts_with(path)).map(|(_, at)| at.requests).sum()
    }

    /// Writes into every stream of these paths again what was seen of its request.
    pub(super) async fn say_again(&self, path: &str) {
        let paths: Vec<String> = {
            let streams = self.streams.lock().unwrap();
            streams.keys().filter(|at| at.starts_with(path)).cloned().collect()
        };
        for path in paths {
            let mut taken = {
                let mut streams = self.streams.lock().unwrap();
                std::mem::take(&mut streams.entry(path.clone()).or_default().streams)
            };
            for (socket, seen) in &mut taken {
                // The gateway may have left it.
                drop(socket.write_all(event("again", seen).as_bytes()).await);
            }
            self.streams.lock().unwrap().entry(path).or_default().streams.extend(taken);
        }
    }
}

/// Reads one request, says what it was, and keeps the stream open.
async fn respond(
    mut socket: TcpStream,
    answers: Arc<Vec<(String, String)>>,
    streams: Arc<Mutex<Streams>>,
) {
    let mut bytes = Vec::new();
    let is_whole = |bytes: &[u8]| {
        let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        if text.contains("transfer-encoding: chunked") {
            return bytes.ends_with(b"\r\n0\r\n\r\n").then_some(());
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map_or(0, |length| length.trim().parse().unwrap());
        (bytes.len() >= head + length).then_some(())
    };
    while is_whole(&bytes).is_none() {
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let seen = String::from_utf8_lossy(&bytes).replace('\r', "");
    let path = seen.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    let origin = seen.lines().find_map(|line| line.strip_prefix("origin: ")).unwrap_or("none");
    let more = answers.iter().find(|(begin, _)| path.starts_with(&**begin));
    let more = more.map_or("", |(_, more)| more.as_str());
    let number = {
        let mut streams = streams.lock().unwrap();
        let at = streams.entry(path.clone()).or_default();
        at.requests += 1;
        at.requests
    };
    let more = more.replace("{n}", &number.to_string()).replace("{origin}", origin);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n{more}\r\n"
    );
    let written = socket.write_all((head + &event("first", &seen)).as_bytes()).await;
    streams.lock().unwrap().entry(path).or_default().streams.push((socket, seen));
    drop(written);
}
