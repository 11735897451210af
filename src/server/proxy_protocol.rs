//! The PROXY protocol, versions 1 and 2: whom a load balancer speaks for.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. A listener is told to expect it;
//! it is never guessed, and it is read from trusted proxies only.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;

use super::transport::Watched;

/// A header, with all that version 2 may add to the addresses.
const MAX_HEADER_BYTES: usize = 4096;

/// Reads the header; what follows it is left. `None` where the proxy speaks for itself, as it does
/// to see whether we live.
///
/// # Errors
/// There is no such header, or it is too long.
pub(super) async fn read(stream: &mut Watched) -> io::Result<Option<SocketAddr>> {
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
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is too long"));
        }
        let mut limited = (&mut *stream).take((MAX_HEADER_BYTES - length) as u64);
        if limited.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
