//! The origin that Pushpin asks before it holds a stream: it responds with `Grip-Hold`.
//!
//! One thread of the benchmark, one request at a time: it is asked once for each stream.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::Outcome;

static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();

/// Its address. The first call starts it, and it ends with the benchmark.
pub(super) fn address() -> Outcome<SocketAddr> {
    if let Some(address) = ADDRESS.get() {
        return Ok(*address);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    drop(thread::Builder::new().name("origin".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A request that failed is sent again. Otherwise the load reports that its stream is missing.
            drop(answer(stream));
        }
    })?);
    Ok(*ADDRESS.get_or_init(|| address))
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while memchr::memmem::find(&request, b"\r\n\r\n").is_none() {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let channel = path.rsplit('/').next().unwrap_or_default();
    let body = ": ready\n\n";
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nGrip-Hold: stream\r\n\
         Grip-Channel: {channel}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes())
}
