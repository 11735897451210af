//! A real Redis, to compare with.

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
    pub fn start() -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let port_text = port.to_string();
        let arguments =
            ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"];
        let mut command = Command::new("redis-server");
        let process = Running::start(command.args(arguments).stdout(Stdio::null()));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("redis-server answers", || TcpStream::connect(address).is_ok());
        Self { address, _process: process }
    }

    pub fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }
}
