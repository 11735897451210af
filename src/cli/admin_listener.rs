//! Requests to the admin listener of a running gateway.

use std::time::Duration;

use clap::{Args, ValueHint};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use ssegate::http_client::{HttpClient, HttpError};

use super::config::ConfigFile;
use super::sub::target;
use super::{CliError, block_on, trust};

const TIMEOUT: Duration = Duration::from_secs(2);
/// The environment variable with the token of `admin.auth`. Not an option: everybody sees the arguments of a
/// process.
const TOKEN_VARIABLE: &str = "SSEGATE_ADMIN_TOKEN";
/// The longest response that is part of an error.
const MAX_QUOTED_BYTES: usize = 64 << 10;

/// The admin listener of a running gateway, as an option and the configuration name it.
#[derive(Args, Debug)]
pub(crate) struct AdminListener {
    /// The admin listener [default: admin.address of the configuration]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    url: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

/// Why the admin listener gave no good response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// `admin: off`, and no `--url`.
    #[error("the configuration has no admin listener; give its URL with --url")]
    NoAdminListener,
    /// The configuration or `--url` is not valid. Exit code 1 and not 64: a container runtime knows
    /// only 0 (healthy) and 1 (unhealthy).
    #[error("{0}")]
    InvalidUrl(String),
    /// A response of 200 broke off, or is too long.
    #[error("the response of {0} is not complete: {1}")]
    Incomplete(Uri, String),
    /// The token has a control character.
    #[error("SSEGATE_ADMIN_TOKEN is not a token: it has a control character, such as a line end")]
    Token,
    /// The gateway responded with another status than 200.
    #[error("{0}: {1}{hint}", hint = token_hint(.0))]
    Status(StatusCode, String),
}

fn token_hint(status: &StatusCode) -> &'static str {
    match *status {
        StatusCode::UNAUTHORIZED => "; set SSEGATE_ADMIN_TOKEN to a token of admin.auth",
        _ => "",
    }
}

impl From<AdminError> for CliError {
    fn from(error: AdminError) -> Self {
        Self::Command(error.into())
    }
}

/// The body of a response of 200, or [`AdminError::Incomplete`].
pub(super) type AdminBody = Result<String, AdminError>;

impl AdminListener {
    /// Requests `path`, and reads up to `max_bytes` of the body.
    ///
    /// # Errors
    /// There is no admin listener, it cannot be reached, or its status is not 200.
    pub(super) fn get(&self, path: &str, max_bytes: usize) -> Result<AdminBody, CliError> {
        let uri = self.uri(path)?;
        match block_on(exchange(&Method::GET, &uri, (max_bytes, TIMEOUT)))? {
            (StatusCode::OK, body) => Ok(body.map_err(|cause| AdminError::Incomplete(uri, cause))),
            (status, body) => {
                Err(AdminError::Status(status, one_line(&body.unwrap_or_default())).into())
            }
        }
    }

    /// Sends POST without a body, and waits for the response up to `limit`. Returns its status and its body.
    ///
    /// # Errors
    /// There is no admin listener, it cannot be reached, or the response is not complete.
    pub(super) fn post(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<(StatusCode, String), CliError> {
        let uri = self.uri(path)?;
        let exchange = exchange(&Method::POST, &uri, (MAX_QUOTED_BYTES, limit));
        let (status, body) = block_on(exchange)?;
        Ok((status, body.map_err(|cause| AdminError::Incomplete(uri, cause))?))
    }

    /// Whether the URL is given, so that the configuration need not name it.
    pub(super) fn is_given(&self) -> bool {
        self.url.is_some()
    }

    fn uri(&self, path: &str) -> Result<Uri, CliError> {
        let base = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => self.address()?,
        };
        let uri: Result<Uri, _> = format!("{base}{path}").parse();
        let uri = uri.ok().filter(|uri| uri.scheme().is_some() && uri.host().is_some());
        uri.ok_or_else(|| self.invalid(&base).into())
    }

    fn invalid(&self, base: &str) -> AdminError {
        let option = if self.url.is_some() { "--url: " } else { "" };
        AdminError::InvalidUrl(format!(
            "{option}{base:?} is not a URL; write it like http://127.0.0.1:9464"
        ))
    }

    fn address(&self) -> Result<String, CliError> {
        let settings =
            self.config.load_or_dev().map_err(|error| AdminError::InvalidUrl(error.to_string()))?;
        let admin = settings.admin.ok_or(AdminError::NoAdminListener)?;
        Ok(format!("http://{}", target::reachable(admin.address)))
    }
}

/// Sends a request, and reads up to `max_bytes` of the body of a response of 200, all within `limit`. Returns the
/// status, and the body or why it is not complete.
async fn exchange(
    method: &Method,
    uri: &Uri,
    (max_bytes, limit): (usize, Duration),
) -> Result<(StatusCode, Result<String, String>), CliError> {
    let headers = credential()?;
    let client = HttpClient::new(|| trust::tls_client(false), TIMEOUT);
    let exchange = async {
        let response = client.send(method, uri, headers).await?;
        let status = response.http.status();
        let most = if status == StatusCode::OK { max_bytes } else { MAX_QUOTED_BYTES };
        Ok::<_, HttpError>((status, text(response.http.into_body(), most).await))
    };
    let exchanged = tokio::time::timeout(limit, exchange);
    Ok(exchanged.await.map_err(|_| HttpError::Timeout(uri.to_string(), limit))??)
}

/// The header with the token of `admin.auth`, if the environment has one.
fn credential() -> Result<HeaderMap, AdminError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = std::env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty()) {
        let value = [b"Bearer ", token.as_encoded_bytes()].concat();
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| AdminError::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// The body as text, or why it is longer than `most` bytes or breaks off.
async fn text(body: Incoming, most: usize) -> Result<String, String> {
    let body = Limited::new(body, most).collect().await.map_err(|cause| cause.to_string())?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

pub(super) fn one_line(body: &str) -> String {
    body.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
