//! A sentinel that replies what a test wants.

use bytes::BytesMut;
use ssegate_resp::{Limits, Value, ValueDecoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::sentinels::MASTER;

/// What a sentinel replies when it is asked for the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FakeReply {
    /// An address, and the version of its configuration.
    Master(String, u16, u64),
    /// It knows no such master.
    Unknown,
    /// Nothing.
    Silence,
    /// These bytes.
    Raw(&'static [u8]),
}

impl FakeReply {
    /// A server of this machine.
    pub(crate) fn port(port: u16, epoch: u64) -> Self {
        Self::Master("127.0.0.1".to_owned(), port, epoch)
    }
}

/// The sentinel. Dropped, it closes everything.
pub(crate) struct FakeSentinel {
    port: u16,
    reply: watch::Sender<FakeReply>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl FakeSentinel {
    /// Listens on a port of its own.
    pub(crate) async fn start(reply: FakeReply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (reply, replies) = watch::channel(reply);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                // It ends with the client, or with this sentinel.
                connections.spawn(serve(socket, replies.clone()));
            }
        });
        Self { port, reply, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// One for each reply.
    pub(crate) async fn all(replies: impl IntoIterator<Item = FakeReply>) -> Vec<Self> {
        let mut all = Vec::new();
        for reply in replies {
            all.push(Self::start(reply).await);
        }
        all
    }

    /// From now on it replies this; another master is published, too.
    pub(crate) fn now(&self, reply: FakeReply) {
        self.reply.send_replace(reply);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What a gateway is given.
    pub(crate) fn url(all: &[Self], login: &str) -> String {
        let hosts: Vec<_> = all.iter().map(|fake| format!("127.0.0.1:{}", fake.port)).collect();
        format!("redis+sentinel://{login}{}/{MASTER}", hosts.join(","))
    }
}

async fn serve(mut socket: TcpStream, mut replies: watch::Receiver<FakeReply>) {
    replies.mark_unchanged();
    let mut decoder = ValueDecoder::new(Limits::with_max_bulk(1 << 16));
    let mut input = BytesMut::new();
    let mut is_subscribed = false;
    loop {
        let mut output = Vec::new();
        tokio::select! {
            read = socket.read_buf(&mut input) => {
                if read.is_err() || read.is_ok_and(|bytes| bytes == 0) {
                    return;
                }
            }
            changed = replies.changed() => {
                let (Ok(()), FakeReply::Master(host, port, _)) =
                    (changed, replies.borrow().clone()) else { continue };
                if is_subscribed {
                    let text = format!("{MASTER} 127.0.0.1 1 {host} {port}");
                    output.extend(array(&["message", "+switch-master", &text]));
                }
            }
        }
        while let Ok(Some(Value::Array(words))) = decoder.decode(&mut input) {
            let words: Vec<String> = words
                .iter()
                .filter_map(|word| Some(String::from_utf8_lossy(word.as_bytes()?).into_owned()))
                .collect();
            match words[0].to_ascii_uppercase().as_str() {
                // Redis before 6.
                "HELLO" => output.extend(b"-ERR unknown command\r\n"),
                "PING" if is_subscribed => output.extend(array(&["pong", ""])),
                "SUBSCRIBE" => {
                    is_subscribed = true;
                    let confirmed = format!(
                        "*3\r\n$9\r\nsubscribe\r\n${}\r\n{}\r\n:1\r\n",
                        words[1].len(),
                        words[1]
                    );
                    output.extend(confirmed.bytes());
                }
                "SENTINEL" => match &*replies.borrow() {
                    FakeReply::Master(host, port, epoch) => {
                        let (port, epoch) = (port.to_string(), epoch.to_string());
                        output.extend(array(&["ip", host, "port", &port, "config-epoch", &epoch]));
                    }
                    FakeReply::Unknown => {
                        output.extend(b"-ERR No such master with that name\r\n");
                    }
                    FakeReply::Silence => {}
                    FakeReply::Raw(bytes) => output.extend(*bytes),
                },
                _ => output.extend(b"+PONG\r\n"),
            }
        }
        if socket.write_all(&output).await.is_err() {
            return;
        }
    }
}

fn array(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text.into_bytes()
}
