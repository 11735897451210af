//! The PROXY protocol, versions 1 and 2: the client's address from a load balancer.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. A listener is configured to
//! expect it; it is never detected. The caller reads it from trusted proxies only.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;

use super::transport::TrackedSocket;

/// The longest accepted header, including the TLVs of version 2.
const MAX_HEADER_BYTES: usize = 4096;

/// Reads the header, and puts the bytes after it back. Returns the client's address; `None` for a
/// connection of the proxy itself, such as a health check (command LOCAL, or UNKNOWN in version 1).
///
/// # Errors
/// There is no valid header, or it is longer than 4 KiB.
pub(super) async fn read(stream: &mut TrackedSocket) -> io::Result<Option<SocketAddr>> {
    let mut seen = BytesMut::with_capacity(256);
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    loop {
        let length = match ProxyHeader::parse(&seen, config) {
            Ok((header, length)) => {
                let client = header.proxied_address().map(|address| address.source);
                let rest = seen.split_off(length);
                stream.unread(rest.freeze());
                return Ok(client);
            }
            Err(proxy_header::Error::BufferTooShort) => seen.len(),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        if length >= MAX_HEADER_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "PROXY header too long"));
        }
        let mut limited = (&mut *stream).take((MAX_HEADER_BYTES - length) as u64);
        if limited.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
