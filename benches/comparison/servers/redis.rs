//! A Redis of its own for each server: on loopback, on the processors of the load, kept in memory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Site, free_address, listens, words};
use crate::Outcome;
use crate::process::Process;

pub(super) fn start(site: &Site) -> Outcome<(Process, SocketAddr)> {
    let address = free_address();
    let port = address.port().to_string();
    let arguments =
        words(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let cores = &site.cores.others;
    let mut process = Process::start("redis", cores, &site.directory, "redis-server", &arguments)?;
    listens(address, std::slice::from_mut(&mut process))?;
    Ok((process, address))
}

/// The reply to a command whose arguments are single words, if it is one string.
pub(crate) fn ask(address: SocketAddr, command: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut header = String::new();
    reader.read_line(&mut header)?;
    let length = header.trim().strip_prefix('$').ok_or_else(|| format!("{command}: {header}"))?;
    let mut answer = vec![0; length.parse()?];
    reader.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer)?)
}
