//! A whole gateway in this process, and a client that hides nothing from it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use ssegate::gateway::{Gateway, Start};

/// A gateway of this process, with its own bus; where it listens.
fn gateway() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let text = "
redis: { url: \"embedded://127.0.0.1:0\" }
listeners: [{ address: \"127.0.0.1:0\" }]
admin: off
shards: 1
routes:
  - path: /events
    events: { channels: [\"{query.channel}\"] }
  - path: /{*rest}
    proxy: { upstream: \"http://127.0.0.1:9\" }
";
        let settings = ssegate::config::parse(text, "gateway.yaml", &|_| None);
        let settings = settings.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let gateway = Gateway::open(settings, Start::Fresh).expect("sockets");
        let address = gateway.settings().listeners[0].address;
        std::thread::spawn(|| gateway.run(None).expect("runs"));
        address
    })
}

/// Says it all, and waits until the gateway has hung up.
pub fn exchange(bytes: &[u8]) {
    let mut socket = TcpStream::connect(gateway()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    // No port is kept waiting for a connection that is over.
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket");
    let _gone = socket.write_all(bytes);
    let _gone = socket.shutdown(Shutdown::Write);
    let mut answer = [0; 4096];
    loop {
        match socket.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it never ends"),
            Err(_) => return,
        }
    }
}
