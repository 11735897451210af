//! A panic on purpose, in builds for tests: what it costs is to be seen at a running gateway.

use std::sync::OnceLock;

use http::Request;

/// Names the path at which a build with debug assertions panics.
const PANIC_AT: &str = "SSEGATE_PANIC_AT";
/// Names the path at which it panics in the body of the response.
const PANIC_IN_BODY: &str = "SSEGATE_PANIC_IN_BODY";

/// How often a body may be polled before it panics.
pub(super) type Polls = u8;

/// The body of the response to this request may be polled so often; `None`: for ever.
pub(super) fn polls_of_body<B>(request: &Request<B>) -> Option<Polls> {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::var(PANIC_IN_BODY).ok());
    (path.as_deref() == Some(request.uri().path())).then_some(1)
}

/// A body is polled.
#[expect(clippy::panic, reason = "that is what it is for")]
pub(super) fn poll(left: &mut Option<Polls>) {
    match left {
        None => {}
        Some(0) => panic!("on purpose"),
        Some(left) => *left -= 1,
    }
}

/// Panics if it is this request that shall.
#[expect(clippy::panic, reason = "that is what it is for")]
pub(super) fn panic_at<B>(request: &Request<B>) {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::var(PANIC_AT).ok());
    if path.as_deref() == Some(request.uri().path()) {
        panic!("on purpose");
    }
}
