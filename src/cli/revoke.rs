//! `ssegate revoke`: takes back what credentials permit, on every gateway.

use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};
use ssegate::auth::ControlSettings;
use ssegate::config::{self, ConfigPurpose};
use ssegate::source::SourceLocation;
use ssegate::source::control::PublishedRevocation;
use ssegate::source::redis::{RedisServer, publish_revocation};
use ssegate_auth::revocation::{self, ControlKey, Revocation, RevocationTarget};
use ssegate_hub::ChannelName;

use super::config::ConfigFile;
use super::count::count;
use super::publish::redis_location;
use super::secret::SecretOption;
use super::{CliError, block_on, duration, output};

const KEY: SecretOption = SecretOption { option: "--key", variable: "SSEGATE_REVOCATION_KEY" };

/// Revoke credentials
///
/// Ends the streams of a user, a token, a session, a channel, or all, on every gateway within a second, and
/// refuses the credentials from then on. Signed with revocation.key and published on
/// revocation.control_channel of the configuration; Redis keeps it for gateways that are away. Prints how
/// many gateways heard it.
///
/// Other users of the machine see arguments in ps, and the shell keeps them: give the key as @FILE or in the
/// variable SSEGATE_REVOCATION_KEY, unless it is in the configuration.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true))]
pub(crate) struct RevokeCommand {
    /// The user: credentials of this subject that were issued until now
    #[arg(long, value_name = "ID", group = "target")]
    sub: Option<String>,
    /// With --sub: also credentials that are issued later
    #[arg(long)]
    block: bool,
    /// The token with this id (claim jti)
    #[arg(long, value_name = "JTI", group = "target")]
    token_id: Option<String>,
    /// The tokens of this session (claim sid)
    #[arg(long, value_name = "SID", group = "target")]
    session: Option<String>,
    /// The streams that follow this channel or pattern; no credential is refused
    #[arg(long, value_name = "NAME", group = "target")]
    channel: Option<String>,
    /// All tokens that were issued until now, and all streams of routes with auth
    #[arg(long, group = "target")]
    all: bool,
    /// How long it is remembered [default: revocation.remember of the configuration, or 24h]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    remember: Option<Duration>,
    /// The secret that all gateways have [env: SSEGATE_REVOCATION_KEY] [default: revocation.key of the
    /// configuration]
    #[arg(long, value_name = "SECRET|@FILE")]
    key: Option<String>,
    /// The control channel [default: revocation.control_channel of the configuration]
    #[arg(long, value_name = "NAME")]
    control_channel: Option<String>,
    /// Publish to this Redis instead, for example redis://127.0.0.1:6379
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    redis: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

/// Why nothing was revoked, or perhaps not everywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    /// The address has neither user nor password in it.
    #[error("cannot revoke through {0}: {1}")]
    NotPublished(String, String),
    /// Those who are away have not heard it, and will not.
    #[error(
        "{0} heard it, but it could not be stored for those that are away or restart: {1}; \
         deploy/redis-users.acl has the rights that it needs"
    )]
    NotStored(String, String),
}

impl From<RevokeError> for CliError {
    fn from(error: RevokeError) -> Self {
        Self::Command(error.into())
    }
}

/// Where a revocation goes, and with which key.
struct RevokeThrough {
    server: RedisServer,
    is_kept: bool,
    control: ControlSettings,
    remember: Duration,
}

impl RevokeCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        if self.block && self.sub.is_none() {
            // Of a token or a session every use is refused anyway.
            return Err(CliError::Usage("--block goes with --sub alone".into()));
        }
        let RevokeThrough { server, is_kept, control, remember } = self.through()?;
        let ControlSettings { channel, key } = control;
        let remember = self.remember.unwrap_or(remember);
        let revocation = Revocation::new(self.target(), SystemTime::now(), remember);
        let revocation = revocation.map_err(|_| {
            CliError::Usage("an id has 1 to 1024 bytes, and --for is at most 366 days".into())
        })?;
        let (message, expires) = (revocation::sign(&revocation, &key), revocation.expires());
        let publishing = publish_revocation((&server, is_kept), &channel, &message, expires);
        let published = block_on(async { Ok(publishing.await) })?;
        let PublishedRevocation { gateways, not_stored } =
            published.map_err(|error| RevokeError::NotPublished(server.to_string(), error))?;
        let gateways = count(usize::try_from(gateways).unwrap_or(usize::MAX), "gateway");
        match not_stored {
            Some(error) => Err(RevokeError::NotStored(gateways, error).into()),
            None => output::line(gateways),
        }
    }

    fn target(&self) -> RevocationTarget {
        let is_blocked = self.block;
        let subject = self.sub.clone().map(|id| RevocationTarget::Subject { id, is_blocked });
        subject
            .or_else(|| self.token_id.clone().map(RevocationTarget::Token))
            .or_else(|| self.session.clone().map(RevocationTarget::Session))
            .or_else(|| self.channel.clone().map(RevocationTarget::Channel))
            .unwrap_or(RevocationTarget::All)
    }

    fn through(&self) -> Result<RevokeThrough, CliError> {
        let (location, configured) = match &self.redis {
            Some(_) if self.config.is_given() => {
                return Err(CliError::Usage("-c and --redis exclude each other".into()));
            }
            Some(url) => {
                let usage = |error| CliError::Usage(format!("--redis: {error}"));
                (config::source(url).map_err(usage)?, None)
            }
            None => {
                let settings = self.config.load_or_dev_for(ConfigPurpose::Revoke)?;
                (settings.source.location, settings.revocation)
            }
        };
        let configured = configured.unwrap_or_default();
        let control = self.control(configured.control)?;
        Ok(RevokeThrough {
            is_kept: matches!(location, SourceLocation::Redis(_)),
            server: RedisServer::new(redis_location(location)),
            control,
            remember: configured.remember,
        })
    }

    fn control(&self, configured: Option<ControlSettings>) -> Result<ControlSettings, CliError> {
        let (channel, key) = configured.map(|it| (it.channel, it.key)).unzip();
        let usage = |message: String| CliError::Usage(message);
        let channel: Option<ChannelName> = match &self.control_channel {
            Some(name) => {
                let named = config::control_channel(name);
                Some(named.map_err(|error| usage(format!("--control-channel: {error}")))?)
            }
            None => channel,
        };
        let channel = channel.ok_or_else(|| {
            usage(format!(
                "{} has no revocation.control_channel; set it, or name the channel with \
                 --control-channel",
                self.config.path().display()
            ))
        })?;
        let key = match KEY.text(self.key.as_deref())? {
            Some(text) => Some(control_key(&text)?),
            None => key,
        };
        let key = key.ok_or_else(|| {
            usage(format!("give the key: --key @FILE, or the variable {}", KEY.variable))
        })?;
        Ok(ControlSettings { channel, key })
    }
}

/// The key that an option is or names. In a file it may stand as in the configuration, after `base64:`.
fn control_key(text: &str) -> Result<ControlKey, CliError> {
    let secret = KEY.resolve(text)?;
    let key = match str::from_utf8(&secret) {
        Ok(text) => config::control_key(text),
        Err(_binary) => ControlKey::new(&secret).ok_or_else(|| "is too short".to_owned()),
    };
    key.map_err(|error| CliError::Usage(format!("{} {error}", KEY.option)))
}
