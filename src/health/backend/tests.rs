//! How long the state of a backend is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{BackendHealth, FORGOTTEN_AFTER, RECOVERED_AFTER, Recovery};
use crate::log_limit::LOG_INTERVAL;

#[test]
fn failures_are_rate_limited_by_kind_and_recovery_needs_five_quiet_seconds() {
    let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
    let recovered = |now| backend.recover(&mut backend.lock(), now);
    assert_eq!(backend.incidents(), Vec::<String>::new());
    assert_eq!(backend.failed("connect", "refused", start), Some(0));
    for _ in 0..2000 {
        assert_eq!(backend.failed("connect", "refused", start), None);
    }
    assert_eq!(backend.failed("exchange", "reset", start), Some(0), "another kind");
    assert_eq!(backend.failed("connect", "refused", start + LOG_INTERVAL), Some(2000));
    assert!(backend.incidents()[0].starts_with("connect: refused; since "));
    assert!(backend.incidents()[0].contains(", 2003 times, "), "{:?}", backend.incidents());

    let last = start + LOG_INTERVAL;
    assert_eq!(recovered(last + RECOVERED_AFTER), None, "no response yet");
    backend.responded_at(last);
    assert_eq!(recovered(last + RECOVERED_AFTER / 2), None, "too early");
    backend.failed("connect", "refused", last);
    assert_eq!(recovered(last + RECOVERED_AFTER), None, "failed after the response");
    let responds = last + Duration::from_micros(2_000_999);
    backend.responded_at(responds);
    let lasted = Some(LOG_INTERVAL + Duration::from_secs(2));
    let recovery = Recovery { lasted, requests: 2004 };
    assert_eq!(recovered(last + RECOVERED_AFTER), Some(recovery));
    assert_eq!(backend.incidents(), Vec::<String>::new());
    assert_eq!(recovered(last + 9 * RECOVERED_AFTER), None);
}

#[test]
fn a_new_outage_after_a_recovery_is_logged_at_once() {
    let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
    assert_eq!(backend.failed("connect", "refused", start), Some(0));
    assert_eq!(backend.failed("connect", "refused", start), None);
    backend.responded_at(start);
    backend.tick(start + RECOVERED_AFTER);
    assert_eq!(backend.failed("connect", "refused", start + RECOVERED_AFTER), Some(0));
}

#[test]
fn without_requests_a_failure_expires_unless_the_backend_is_unreachable() {
    let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
    backend.failed("exchange", "reset", start);
    backend.tick(start + FORGOTTEN_AFTER / 2);
    assert_eq!(backend.incidents().len(), 1);
    backend.tick(start + FORGOTTEN_AFTER);
    assert_eq!(backend.incidents(), Vec::<String>::new());

    assert!(backend.set_unreachable(true));
    backend.failed("connect", "refused", start);
    backend.tick(start + 2 * FORGOTTEN_AFTER);
    assert_eq!(backend.incidents().len(), 1);
    assert!(backend.connected(), "it was unreachable");
    assert!(!backend.connected());
    backend.tick(start + 2 * FORGOTTEN_AFTER);
    assert_eq!(backend.incidents(), Vec::<String>::new());
}

#[test]
fn a_backend_that_hangs_is_told_before_its_requests_time_out() {
    let backend = Arc::new(BackendHealth::new("/", "http://b:80"));
    let start = Instant::now();
    let mut waits: Vec<_> = (0..20).map(|_| backend.wait(start)).collect();
    let at = |seconds| start + Duration::from_secs(seconds);
    backend.tick(at(9));
    assert_eq!(backend.incidents(), Vec::<String>::new(), "it may be slow");
    backend.tick(at(11));
    let [hang] = &*backend.incidents() else { panic!("{:?}", backend.incidents()) };
    assert!(hang.starts_with("it hangs: 20 requests wait, and none is"), "{hang}");
    assert!(hang.contains("; since ") && !hang.contains("times"), "{hang}");
    waits.truncate(15);
    backend.tick(at(12));
    assert!(backend.incidents()[0].starts_with("it hangs: 15 requests wait"));
    assert!(backend.outages()[0].ended.is_none(), "{:?}", backend.outages());
    waits.pop().expect("it waits").responded(at(13));
    backend.tick(at(13));
    assert_eq!(backend.incidents(), Vec::<String>::new());
    let [outage] = &*backend.outages() else { panic!("{:?}", backend.outages()) };
    assert!(outage.cause.as_ref().is_some_and(|cause| cause.starts_with("it hangs: 20 requests")));
    assert!(outage.ended.is_some(), "{outage:?}");
}

#[test]
fn it_is_remembered_when_a_backend_failed() {
    let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
    assert_eq!(backend.outages(), []);
    backend.failed("connect", "cannot connect: refused", start);
    backend.failed("exchange", "reset", start);
    assert!(backend.outages()[0].ended.is_none(), "{:?}", backend.outages());
    backend.responded_at(start);
    backend.tick(start + RECOVERED_AFTER);
    let [outage] = &*backend.outages() else { panic!("{:?}", backend.outages()) };
    assert_eq!(outage.cause.as_deref(), Some("cannot connect: refused"));
    assert!(outage.ended.is_some() && outage.failures == 2, "{outage:?}");
}

#[test]
fn a_backend_is_slow_above_one_percent_of_slow_responses() {
    let backend = BackendHealth::new("/", "http://b:80");
    let response_times = backend.response_times(0, Duration::from_millis(500));
    // Other routes of the same path, with other limits or indexes.
    let _others = [(1, 500), (0, 900), (2, 900)].map(|(route_index, limit)| {
        backend.response_times(route_index, Duration::from_millis(limit))
    });
    let respond = |fast, slow| {
        for response in 0..fast + slow {
            if response < slow {
                response_times.record_slow();
            }
            response_times.record_response();
        }
        backend.tick(Instant::now());
        backend.incidents()
    };
    assert_eq!(respond(396, 4), Vec::<String>::new(), "exactly 1%");
    let slow = respond(0, 1);
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert!(
        slow[0].starts_with("slow: 5 of 401 responses in a minute took over 500ms"),
        "{slow:?}"
    );
    for _ in 0..58 {
        assert_eq!(respond(0, 0).len(), 1);
    }
    respond(0, 0);
    assert_eq!(respond(0, 0), Vec::<String>::new(), "a minute later");
}

#[test]
fn response_times_are_shared_by_all_shards_and_end_with_the_route() {
    let backend = BackendHealth::new("/", "http://b:80");
    let limit = Duration::from_millis(500);
    let (one, same) = (backend.response_times(0, limit), backend.response_times(0, limit));
    assert!(Arc::ptr_eq(&one, &same));
    assert!(!Arc::ptr_eq(&one, &backend.response_times(1, limit)));
    (0..5).for_each(|_| one.record_slow());
    backend.tick(Instant::now());
    assert_eq!(backend.incidents().len(), 1);
    drop((one, same));
    assert_eq!(backend.incidents(), Vec::<String>::new(), "the route is gone");
    backend.tick(Instant::now());
    assert!(backend.lock().response_times.is_empty());
}

#[test]
fn set_unreachable_reports_changes_only() {
    let backend = BackendHealth::new("/", "http://b:80");
    let changes = [false, true, true, false].map(|is_down| backend.set_unreachable(is_down));
    assert_eq!(changes, [false, true, false, true]);
}
