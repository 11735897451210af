//! Injects panics for tests of a running gateway. In builds with debug assertions only.

use std::sync::OnceLock;

use http::Request;

/// The environment variable with the path whose handler panics.
const PANIC_AT: &str = "SSEGATE_PANIC_AT";
/// The environment variable with the path whose response body panics.
const PANIC_IN_BODY: &str = "SSEGATE_PANIC_IN_BODY";

/// The number of polls before a body panics.
pub(super) type Polls = u8;

/// The number of polls before the body of this request's response panics; `None` if it does not.
pub(super) fn polls_of_body<B>(request: &Request<B>) -> Option<Polls> {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::var(PANIC_IN_BODY).ok());
    (path.as_deref() == Some(request.uri().path())).then_some(1)
}

/// Counts a poll, and panics if none is left.
#[expect(clippy::panic, reason = "injects a panic")]
pub(super) fn poll(left: &mut Option<Polls>) {
    match left {
        None => {}
        Some(0) => panic!("injected by a test"),
        Some(left) => *left -= 1,
    }
}

/// Panics if the request has the path in [`PANIC_AT`].
#[expect(clippy::panic, reason = "injects a panic")]
pub(super) fn panic_at<B>(request: &Request<B>) {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::var(PANIC_AT).ok());
    if path.as_deref() == Some(request.uri().path()) {
        panic!("injected by a test");
    }
}
