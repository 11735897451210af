//! A real Redis, to compare with.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{Peer, eventually};

pub const NEEDS: &str = "apt-get install redis-server";

/// A process that is ended with its owner.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; {NEEDS}")))
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// What it prints.
    pub fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().expect("piped, and taken once")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A redis-server on a free port of loopback.
pub struct Redis {
    pub address: SocketAddr,
    _process: Running,
}

impl Redis {
    /// Starts one. Another process may take the port before it does: then it ends, and another port is tried.
    pub fn start() -> Self {
        loop {
            if let Some(redis) = Self::try_start() {
                return redis;
            }
        }
    }

    fn try_start() -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let port_text = port.to_string();
        let arguments =
            ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"];
        let mut command = Command::new("redis-server");
        let mut process = Running::start(command.args(arguments).stdout(Stdio::null()));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("redis-server answers, or has ended", || {
            !process.is_running() || Self::answers(address)
        });
        process.is_running().then_some(Self { address, _process: process })
    }

    fn answers(address: SocketAddr) -> bool {
        let Ok(mut stream) = TcpStream::connect(address) else { return false };
        let asked = stream.write_all(b"INFO server\r\n");
        let mut reply = [0; 64];
        asked.is_ok() && stream.read(&mut reply).is_ok_and(|read| reply[..read].starts_with(b"$"))
    }

    pub fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }
}
