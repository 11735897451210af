//! Fetches a set of keys once, within bounds of time and size.

use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ssegate_auth::jwt::{KeyError, KeySet};
use tokio::time::timeout;

use super::location::JwksLocation;
use crate::http_client::{HttpClient, HttpError};
use crate::tls_client::{self, Trust};

/// The time of a whole fetch.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set, in bytes. That of a large provider has a few keys of 2 KiB each.
const MAX_BYTES: usize = 1 << 20;

/// A set of keys that was fetched.
#[derive(Debug)]
pub(super) struct FetchedKeys {
    /// The keys, of which at least one verifies signatures.
    pub(super) keys: KeySet,
    /// How long the response is fresh, as the server says (RFC 9111, section 5.2.2.1).
    pub(super) max_age: Option<Duration>,
}

/// Why there are no keys. The text says what to do. It quotes no more of the response than an operator needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum JwksError {
    #[error("{0}; check the URL, its host and jwks_ca")]
    Http(#[from] HttpError),
    #[error("the response broke off: {0}")]
    BrokenOff(String),
    #[error("no complete response within {FETCH_TIMEOUT:?}; check that the server is reachable")]
    TimedOut,
    /// Redirects are not followed: only the configuration decides which server is trusted for keys.
    #[error(
        "it redirects to {0}, which is not followed; set jwks to the URL of the keys themselves"
    )]
    Redirect(String),
    #[error("its status is {0}; check the URL")]
    Status(StatusCode),
    #[error("it is larger than 1 MiB; check the URL")]
    TooLarge,
    #[error("{0}; check that the URL is that of the keys (`jwks_uri`)")]
    Keys(#[from] KeyError),
}

/// The value of a metric's label for the result of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksErrorKind {
    /// The server cannot be connected to, or not be trusted.
    Connect,
    /// The response broke off, is not valid, or is too large.
    Response,
    /// There was no complete response in time.
    Timeout,
    /// The status was another one than 200.
    Status,
    /// The body is not a set of keys, or has no usable key.
    Keys,
}

impl JwksErrorKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Connect, Self::Response, Self::Timeout, Self::Status, Self::Keys];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Response => "response",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Keys => "keys",
        }
    }
}

impl JwksError {
    pub(super) fn kind(&self) -> JwksErrorKind {
        match self {
            Self::Http(HttpError::Url(_) | HttpError::Connect(..) | HttpError::Tls(..)) => {
                JwksErrorKind::Connect
            }
            Self::Http(HttpError::Timeout(..)) | Self::TimedOut => JwksErrorKind::Timeout,
            Self::Http(HttpError::Http(..)) | Self::BrokenOff(_) | Self::TooLarge => {
                JwksErrorKind::Response
            }
            Self::Redirect(_) | Self::Status(_) => JwksErrorKind::Status,
            Self::Keys(_) => JwksErrorKind::Keys,
        }
    }
}

/// Fetches a set of keys once: for `ssegate check --connect`.
///
/// # Errors
/// Why there is no usable set within 5 seconds and 1 MiB, and what to do.
pub async fn fetch_keys(location: &JwksLocation) -> Result<KeySet, String> {
    let fetched = JwksFetcher::new(location.clone()).fetch().await;
    fetched.map(|fetched| fetched.keys).map_err(|error| error.to_string())
}

/// Fetches the set of one location, each time over a connection of its own.
#[derive(Debug)]
pub(super) struct JwksFetcher {
    location: JwksLocation,
    client: std::sync::Arc<HttpClient>,
}

impl JwksFetcher {
    pub(super) fn new(location: JwksLocation) -> Self {
        let roots = location.roots.clone();
        let trust = move || {
            tls_client::client_config(match roots.is_empty() {
                true => Trust::SystemRootsAnd(Vec::new()),
                false => Trust::Only(roots.clone()),
            })
        };
        Self { location, client: HttpClient::new(trust, FETCH_TIMEOUT).into() }
    }

    /// Fetches the set.
    ///
    /// # Errors
    /// There is no usable set of keys within the bounds.
    pub(super) async fn fetch(&self) -> Result<FetchedKeys, JwksError> {
        timeout(FETCH_TIMEOUT, self.exchange()).await.unwrap_or(Err(JwksError::TimedOut))
    }

    async fn exchange(&self) -> Result<FetchedKeys, JwksError> {
        // Loading the system's certificates blocks, and so does reading a large set below: not on this thread,
        // on which events arrive.
        let client = std::sync::Arc::clone(&self.client);
        unblock(move || client.load_trust()).await;
        let response = self.client.get(&self.location.url, headers()).await?;
        let (head, body) = response.http.into_parts();
        match head.status {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok());
                let to = to.map(|to| to.split(['?', '#']).next().unwrap_or_default());
                return Err(JwksError::Redirect(to.unwrap_or("another place").to_owned()));
            }
            status => return Err(JwksError::Status(status)),
        }
        let body = Limited::new(body, MAX_BYTES).collect().await;
        let text = body
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => JwksError::TooLarge,
                false => JwksError::BrokenOff(error.to_string()),
            })?
            .to_bytes();
        let keys = unblock(move || KeySet::from_jwks(&text)).await?;
        Ok(FetchedKeys { keys, max_age: max_age(&head.headers) })
    }
}

/// Runs `work` on a thread on which it may block.
async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let kinds = "application/jwk-set+json, application/json";
    headers.insert(ACCEPT, HeaderValue::from_static(kinds));
    let agent = concat!("ssegate/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split(','));
    let mut ages = directives.filter_map(|directive| {
        let (name, seconds) = directive.trim().split_once('=')?;
        let is_age = name.eq_ignore_ascii_case("max-age");
        is_age.then(|| seconds.trim_matches('"').parse().ok()).flatten()
    });
    ages.next().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use http::header::CACHE_CONTROL;

    use super::max_age;

    #[test]
    fn the_age_that_a_server_allows_is_read() {
        for (value, seconds) in [
            ("max-age=300", Some(300)),
            ("public, Max-Age=\"60\" , must-revalidate", Some(60)),
            ("s-maxage=9", None),
            ("no-store", None),
            ("max-age=-1", None),
            ("max-age", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().expect(value));
            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
