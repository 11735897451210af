//! `ssegate pub`: one message to a channel of Redis, or of the embedded bus.
//!
//! Speaks RESP to either, as a backend does; a running gateway is not asked.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError};
use serde::Serialize;
use ssegate::config::{self, Settings};
use ssegate::event::Format;
use ssegate::route::Target;
use ssegate::source::SourceLocation;

use super::config::ConfigFile;
use super::sub::target;
use super::{Error, block_on, check, output};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What stdin may bring: Redis takes no longer string (`proto-max-bulk-len`).
const MAX_BYTES: u64 = 512 << 20;

/// Publish a message
///
/// Goes to the redis.url of the configuration; without one, to the bus of `ssegate dev`. Prints how
/// many receivers heard it: each gateway that follows the channel is one, however many streams it
/// holds.
#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// Where to
    channel: String,
    /// What; - reads stdin, without the line end it ends with
    #[arg(allow_hyphen_values = true)]
    data: String,
    /// The name of the event; the message is then an envelope, for routes with format: envelope
    #[arg(short, long, value_name = "NAME")]
    event: Option<String>,
    /// The id of the event; as with --event. Used where the route says history: off
    #[arg(short, long)]
    id: Option<String>,
    /// Publish there instead, for example redis://127.0.0.1:6379
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    redis: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The envelope is JSON.
    #[error("with --event or --id the data must be UTF-8")]
    NotUtf8,
    /// More than Redis would take.
    #[error("stdin has more than 512 MiB")]
    TooLarge,
    /// Nobody is there, or the password is wrong. The address has neither user nor password in it.
    #[error("cannot connect to Redis at {0}: {1}")]
    Connect(String, RedisError),
    /// Redis was reached, and said no or nothing.
    #[error("Redis at {0} did not publish: {1}")]
    Refused(String, RedisError),
}

impl Publish {
    pub(super) fn execute(self) -> Result<(), Error> {
        let location = match &self.redis {
            Some(url) => {
                let mistake = |mistake| Error::Usage(format!("--redis: {mistake}"));
                connection(config::source(url).map_err(mistake)?)
            }
            None => self.configured()?,
        };
        let message = self.message()?;
        let receivers = block_on(publish(location, &self.channel, &message))?;
        output::line(check::count(receivers, "receiver"))
    }

    fn configured(&self) -> Result<ConnectionInfo, Error> {
        let settings = self.config.load_or_dev()?;
        if self.is_envelope() && !reads_envelopes(&settings) {
            output::to_stderr(
                "ssegate: no route says format: envelope; it will be seen as JSON, not as an event",
            );
        }
        Ok(connection(settings.source.location))
    }

    fn message(&self) -> Result<Vec<u8>, Error> {
        let data = if self.data == "-" { stdin()? } else { self.data.clone().into_bytes() };
        if !self.is_envelope() {
            return Ok(data);
        }
        let data = String::from_utf8(data).map_err(|_| PublishError::NotUtf8)?;
        Ok(envelope(self.event.as_deref(), self.id.as_deref(), &data))
    }

    fn is_envelope(&self) -> bool {
        self.event.is_some() || self.id.is_some()
    }
}

fn reads_envelopes(settings: &Settings) -> bool {
    settings.routes.iter().any(|route| {
        let events = match &route.target {
            Target::Events(events) => Some(events),
            Target::Proxy(_) | Target::Demo => None,
        };
        let handed_over = route.handover.as_ref().map(|handover| &handover.events);
        events.into_iter().chain(handed_over).any(|events| events.format == Format::Envelope)
    })
}

fn connection(location: SourceLocation) -> ConnectionInfo {
    match location {
        SourceLocation::Redis(info) => info,
        SourceLocation::Embedded(address) => {
            let url = format!("redis://{}", target::reachable(address));
            url.into_connection_info().expect("an address makes a URL")
        }
    }
}

fn stdin() -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    let mut input = std::io::stdin().lock().take(MAX_BYTES + 1);
    let read = input.read_to_end(&mut data).map_err(Error::Input)?;
    if read as u64 > MAX_BYTES {
        return Err(PublishError::TooLarge.into());
    }
    // What `echo` adds is not meant. It would be one empty `data:` line more.
    if data.ends_with(b"\n") {
        data.pop();
        if data.ends_with(b"\r") {
            data.pop();
        }
    }
    Ok(data)
}

fn envelope(event: Option<&str>, id: Option<&str>, data: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        data: &'a str,
    }
    serde_json::to_vec(&Envelope { event, id, data }).expect("strings are JSON")
}

async fn publish(info: ConnectionInfo, channel: &str, message: &[u8]) -> Result<usize, Error> {
    let at = info.addr().to_string();
    let mut connection =
        connect(info).await.map_err(|error| PublishError::Connect(at.clone(), error))?;
    let mut command = redis::cmd("PUBLISH");
    let receivers = command.arg(channel).arg(message).query_async(&mut connection).await;
    Ok(receivers.map_err(|error| PublishError::Refused(at, error))?)
}

async fn connect(info: ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
}

#[cfg(test)]
mod tests {
    use ssegate::config;

    use super::{connection, envelope};

    #[test]
    fn an_envelope_says_what_was_said_and_nothing_else() {
        let text = |event, id, data| String::from_utf8(envelope(event, id, data)).expect("JSON");
        assert_eq!(text(Some("ping"), None, "{}"), r#"{"event":"ping","data":"{}"}"#);
        assert_eq!(text(None, Some("7"), "a\n\"b\""), r#"{"id":"7","data":"a\n\"b\""}"#);
    }

    #[test]
    fn a_place_is_read_as_the_configuration_does_and_never_repeated() {
        let error = config::source("redis://:secret@host:port").expect_err("no port");
        assert!(!error.contains("secret"), "{error}");
        for url in ["rediss://user:word@h/3", "redis+unix:///run/r.sock", "embedded://0.0.0.0:1"] {
            let at = connection(config::source(url).expect(url)).addr().to_string();
            assert!(["h:6379", "/run/r.sock", "127.0.0.1:1"].contains(&at.as_str()), "{at}");
        }
    }
}
