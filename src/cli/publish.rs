//! `ssegate pub`: publishes one message to Redis or to the embedded bus.
//!
//! Speaks RESP to either, as a backend does. It does not need a running gateway, except as the
//! embedded bus.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
};
use ssegate::config;
use ssegate::source::SourceLocation;
use ssegate::source::redis::{RedisLocation, RedisServer};
use ssegate_format::encode_envelope;

use super::config::ConfigFile;
use super::count::count;
use super::sub::target;
use super::{CliError, block_on, connect, followers, output};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Times that another node is asked, where one says so: two may each name the other for a moment.
const MAX_REDIRECTS: u32 = 5;

/// The longest message read from stdin: the default limit of a Redis string (`proto-max-bulk-len`).
const MAX_BYTES: u64 = 512 << 20;

/// Publish a message
///
/// Publishes to the Redis of the configuration, of several servers to that which has the channel, or,
/// if there is no gateway.yaml, to the embedded bus of `ssegate dev`. Prints the number of receivers: a gateway that is subscribed to the
/// channel counts as one, however many streams it serves.
#[derive(Args, Debug)]
pub(crate) struct PublishCommand {
    /// The channel
    channel: String,
    /// The message; - reads it from stdin, without the final newline
    #[arg(allow_hyphen_values = true)]
    data: String,
    /// The event name; sends the message as a JSON envelope, for routes with format: envelope
    #[arg(short, long, value_name = "NAME")]
    event: Option<String>,
    /// The event id, also in an envelope; used only by routes with history: off
    #[arg(short, long)]
    id: Option<String>,
    /// Publish to a sharded channel (SPUBLISH); by itself where a route of the configuration has
    /// `sharded: true`
    #[arg(long)]
    sharded: bool,
    /// Publish to this Redis instead, for example redis://127.0.0.1:6379
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    redis: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

/// Why the message was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The envelope is JSON, which has to be UTF-8.
    #[error("the message is not valid UTF-8, which --event and --id require")]
    NotUtf8,
    /// Larger than [`MAX_BYTES`].
    #[error("the message on stdin is larger than 512 MiB, the limit of Redis")]
    TooLarge,
    /// The connection or the login failed. The address has neither user nor password in it.
    #[error("cannot connect to {0}: {1}{2}")]
    Connect(String, RedisError, &'static str),
    /// The connection was accepted, or everything sent on it is lost, but there is no reply.
    #[error("cannot connect to {0}: no reply within {1} seconds; {2}")]
    NoReply(String, u64, &'static str),
    /// No sentinel leads to a master.
    #[error("cannot find Redis: {0}")]
    Find(String),
    /// Redis responded with an error, or not in time.
    #[error("{0} to Redis at {1} failed: {2}{3}")]
    Publish(&'static str, String, RedisError, &'static str),
}

impl From<PublishError> for CliError {
    fn from(error: PublishError) -> Self {
        Self::Command(error.into())
    }
}

impl PublishCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let (location, is_sharded, name) = match &self.redis {
            Some(_) if self.config.is_given() => {
                return Err(CliError::Usage("-c and --redis exclude each other".into()));
            }
            Some(url) => {
                let usage = |error| CliError::Usage(format!("--redis: {error}"));
                let location = config::source(url).map_err(usage)?;
                warn(followers::name_warning(&self.channel, self.sharded));
                (location, false, String::new())
            }
            None => self.configured()?,
        };
        let is_sharded = is_sharded || self.sharded;
        let message = self.message()?;
        let receivers =
            block_on(publish((location, &name), (&self.channel, is_sharded), &message))?;
        output::line(count(receivers, "receiver"))
    }

    /// Where the configuration publishes, whether to a sharded channel, and what the server is called before its address.
    fn configured(&self) -> Result<(SourceLocation, bool, String), CliError> {
        let settings = self.config.load_or_dev()?;
        let is_sharded = self.sharded || followers::are_sharded(&settings, &self.channel);
        match followers::name_warning(&self.channel, is_sharded) {
            Some(warning) => warn([warning]),
            None => {
                let channel = (&*self.channel, is_sharded);
                warn(followers::warnings(&settings, channel, self.is_envelope()));
            }
        }
        let server = followers::server_of(&settings, &self.channel);
        let name = connect::shown_name(&settings, server, ", ");
        let source = settings.source;
        let further = server.checked_sub(1).and_then(|index| source.further.into_iter().nth(index));
        let location = further.map_or(source.location, |one| SourceLocation::Redis(one.location));
        Ok((location, is_sharded, name))
    }

    fn message(&self) -> Result<Vec<u8>, CliError> {
        let data = if self.data == "-" { stdin()? } else { self.data.clone().into_bytes() };
        if !self.is_envelope() {
            return Ok(data);
        }
        let data = String::from_utf8(data).map_err(|_| PublishError::NotUtf8)?;
        Ok(encode_envelope(self.event.as_deref(), self.id.as_deref(), &data))
    }

    fn is_envelope(&self) -> bool {
        self.event.is_some() || self.id.is_some()
    }
}

fn warn(warnings: impl IntoIterator<Item = String>) {
    for warning in warnings {
        output::to_stderr(format_args!("ssegate: warning: {warning}"));
    }
}

/// Where the source is; the embedded bus speaks as a Redis does.
pub(super) fn redis_location(location: SourceLocation) -> RedisLocation {
    match location {
        SourceLocation::Redis(location) => location,
        SourceLocation::Embedded(address) => {
            let url = format!("redis://{}", target::reachable(address));
            let info = url.into_connection_info().expect("an address makes a URL");
            RedisLocation::server(&info)
        }
    }
}

fn stdin() -> Result<Vec<u8>, CliError> {
    let mut data = Vec::new();
    let mut input = std::io::stdin().lock().take(MAX_BYTES + 1);
    let read = input.read_to_end(&mut data).map_err(CliError::Input)?;
    if read as u64 > MAX_BYTES {
        return Err(PublishError::TooLarge.into());
    }
    // `echo` adds a newline, which would become an empty `data:` line.
    if data.ends_with(b"\n") {
        data.pop();
        if data.ends_with(b"\r") {
            data.pop();
        }
    }
    Ok(data)
}

async fn publish(
    (location, name): (SourceLocation, &str),
    (channel, is_sharded): (&str, bool),
    message: &[u8],
) -> Result<usize, CliError> {
    let is_embedded = matches!(location, SourceLocation::Embedded(_));
    let server = RedisServer::new(redis_location(location));
    let command = if is_sharded { "SPUBLISH" } else { "PUBLISH" };
    let mut redirects = 0;
    loop {
        let found = server.connection_info(is_sharded.then_some(channel)).await;
        let info = found.map_err(PublishError::Find)?;
        let address = info.addr().clone();
        let at = format!("{name}{address}");
        let mut connection = connected(info, (&at, is_embedded))?;
        let error = match redis::cmd(command).arg(channel).arg(message).query(&mut connection) {
            Ok(receivers) => return Ok(receivers),
            Err(error) => error,
        };
        // A user who may not ask for the slots is told by the nodes.
        let is_moved = error.code() == Some("MOVED") && redirects < MAX_REDIRECTS;
        let moved = error.redirect_node().filter(|_| is_moved);
        if !moved.is_some_and(|(owner, slot)| server.moved(slot, owner, &address)) {
            let hint = hint(&error, &address, is_embedded);
            return Err(PublishError::Publish(command, at, error, hint).into());
        }
        redirects += 1;
    }
}

/// Connects. `at` is how the server is called. Blocks: nothing else runs here.
fn connected(
    info: ConnectionInfo,
    (at, is_embedded): (&str, bool),
) -> Result<Connection, PublishError> {
    let address = info.addr().clone();
    open(info).map_err(|error| {
        if error.is_timeout() {
            let mend = match address {
                ConnectionAddr::TcpTls { .. } => {
                    "does this port speak TLS? If not, write redis:// in the URL"
                }
                _ => "does Redis hang?",
            };
            return PublishError::NoReply(at.to_owned(), CONNECT_TIMEOUT.as_secs(), mend);
        }
        let hint = hint(&error, &address, is_embedded);
        PublishError::Connect(at.to_owned(), error, hint)
    })
}

/// What to do about an error of Redis at `address`; empty if the error says it.
fn hint(error: &RedisError, address: &ConnectionAddr, is_embedded: bool) -> &'static str {
    if error.is_connection_refusal() {
        return match is_embedded {
            true => "; is the gateway running? The embedded bus is a part of it",
            false => "; is Redis running?",
        };
    }
    match (error.code(), error.kind(), address) {
        (Some("MOVED" | "CLUSTERDOWN"), ..) => {
            "; this is a node of a Redis Cluster, and a sharded channel is at one of them alone: write redis+cluster:// in the URL"
        }
        (Some("NOAUTH"), ..) => "; put the password in the URL: redis://:password@host:6379",
        (_, ErrorKind::AuthenticationFailed, _) => {
            "; check the user and the password in the URL of Redis"
        }
        (_, ErrorKind::Io, ConnectionAddr::TcpTls { .. }) if !is_distrust(error) => {
            "; does this port speak TLS? If not, write redis:// in the URL"
        }
        (_, ErrorKind::Io, ConnectionAddr::Tcp(..)) if error.is_connection_dropped() => {
            "; does this port speak TLS? Then write rediss:// in the URL"
        }
        _ => "",
    }
}

/// Whether the certificate of Redis is not trusted: it does speak TLS.
fn is_distrust(error: &RedisError) -> bool {
    error.to_string().contains("certificate")
}

fn open(info: ConnectionInfo) -> Result<Connection, RedisError> {
    let connection = Client::open(info)?.get_connection_with_timeout(CONNECT_TIMEOUT)?;
    connection.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    connection.set_write_timeout(Some(RESPONSE_TIMEOUT))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use ssegate::config;

    use super::{encode_envelope, redis_location};

    #[test]
    fn an_envelope_has_only_the_fields_that_are_given() {
        let text =
            |event, id, data| String::from_utf8(encode_envelope(event, id, data)).expect("JSON");
        assert_eq!(text(Some("ping"), None, "{}"), r#"{"event":"ping","data":"{}"}"#);
        assert_eq!(text(None, Some("7"), "a\n\"b\""), r#"{"id":"7","data":"a\n\"b\""}"#);
    }

    #[test]
    fn redis_urls_parse_as_in_the_configuration_and_errors_do_not_repeat_them() {
        let error = config::source("redis://:secret@host:port").expect_err("no port");
        assert!(!error.contains("secret"), "{error}");
        for url in ["rediss://user:word@h/3", "redis+unix:///run/r.sock", "embedded://0.0.0.0:1"] {
            let at = redis_location(config::source(url).expect(url)).to_string();
            assert!(["h:6379", "/run/r.sock", "127.0.0.1:1"].contains(&at.as_str()), "{at}");
        }
    }
}
