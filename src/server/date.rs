//! The `Date` field of responses (RFC 9110, section 6.6.1).

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;

/// Returns the current value of `Date`. Formatted once per second and thread.
pub(super) fn date() -> HeaderValue {
    thread_local! {
        static DATE: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
    }
    let now = Instant::now();
    DATE.with_borrow_mut(|cached| match cached {
        Some((made, date)) if now < *made + Duration::from_secs(1) => date.clone(),
        _ => {
            let date = httpdate::fmt_http_date(SystemTime::now());
            let date = HeaderValue::try_from(date).expect("a date is text");
            *cached = Some((now, date.clone()));
            date
        }
    })
}
