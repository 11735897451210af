//! A panic on purpose, in builds for tests: what it costs is to be seen at a running gateway.

use std::sync::OnceLock;

use http::Request;

/// Names the path at which a build with debug assertions panics.
const PANIC_AT: &str = "SSEGATE_PANIC_AT";

/// Panics if it is this request that shall.
#[expect(clippy::panic, reason = "that is what it is for")]
pub(super) fn panic_at<B>(request: &Request<B>) {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::var(PANIC_AT).ok());
    if path.as_deref() == Some(request.uri().path()) {
        panic!("on purpose");
    }
}
