//! `ssegate healthcheck`: requests `/livez` or `/readyz` of a running gateway, for containers that
//! have no shell or curl.

use std::time::Duration;

use clap::{Args, ValueHint};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::config::ConfigFile;
use super::http_client::{HttpClient, HttpError};
use super::sub::target;
use super::{CliError, block_on, output};

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_BODY_BYTES: usize = 64 << 10;

/// Exit with 0 if the gateway is alive (or ready)
#[derive(Args, Debug)]
pub(crate) struct HealthcheckCommand {
    /// Request /readyz (subscribed to Redis and not draining?) instead of /livez
    #[arg(long)]
    ready: bool,
    /// The admin listener [default: admin.address of the configuration]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    url: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

/// Why the healthcheck failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unhealthy {
    /// `admin: off`, and no `--url`.
    #[error("the configuration has no admin listener; give its URL with --url")]
    NoAdminListener,
    /// The configuration or `--url` is not valid. Exit code 1 and not 64: a container runtime knows
    /// only 0 (healthy) and 1 (unhealthy).
    #[error("{0}")]
    InvalidUrl(String),
    /// The gateway responded with another status than 200.
    #[error("{0}: {1}")]
    Status(StatusCode, String),
}

impl From<Unhealthy> for CliError {
    fn from(error: Unhealthy) -> Self {
        Self::Command(error.into())
    }
}

impl HealthcheckCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let uri = self.uri()?;
        let body = block_on(request(uri))?;
        // A failed write to stdout must not make a healthy gateway unhealthy.
        output::line(body.trim_end()).ok();
        Ok(())
    }

    fn uri(&self) -> Result<Uri, CliError> {
        let base = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => self.admin()?,
        };
        let path = if self.ready { "/readyz?verbose" } else { "/livez" };
        let uri = format!("{base}{path}");
        uri.parse().map_err(|_| Unhealthy::InvalidUrl(format!("--url: {base} is not a URL")).into())
    }

    fn admin(&self) -> Result<String, CliError> {
        let settings =
            self.config.load_or_dev().map_err(|error| Unhealthy::InvalidUrl(error.to_string()))?;
        let admin = settings.admin.ok_or(Unhealthy::NoAdminListener)?;
        Ok(format!("http://{}", target::reachable(admin.address)))
    }
}

async fn request(uri: Uri) -> Result<String, CliError> {
    let client = HttpClient::new(false, TIMEOUT);
    let exchange = async {
        let response = client.get(&uri, HeaderMap::new()).await?;
        let status = response.http.status();
        Ok::<_, HttpError>((status, text(response.http.into_body()).await))
    };
    let (status, body) = tokio::time::timeout(TIMEOUT, exchange)
        .await
        .map_err(|_| HttpError::Timeout(uri.to_string(), TIMEOUT))??;
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(Unhealthy::Status(status, one_line(&body)).into())
    }
}

/// The body for the message, or an empty string if it is too long or breaks off.
async fn text(body: Incoming) -> String {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    }
}

fn one_line(body: &str) -> String {
    body.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
