//! Tests of the health of the gateway as a whole.

use std::sync::Arc;

use tokio::time::Instant;

use super::Health;

#[test]
fn a_failed_source_shows_its_error_until_it_is_ready_again() {
    let health = Health::default();
    let redis = || {
        let redis = health.checks().swap_remove(0);
        (redis.passes, redis.detail.unwrap_or_default())
    };
    assert_eq!(redis(), (false, "not connected yet".to_owned()));
    health.source_failed("connection", "refused");
    assert!(redis().1.starts_with("connection: refused; since "), "{:?}", redis());
    health.source_failed("auth", "WRONGPASS");
    assert!(redis().1.starts_with("auth: WRONGPASS; since "), "{:?}", redis());
    health.set_source_ready(true);
    assert_eq!(redis(), (true, String::new()));

    health.set_log_source_ready(false);
    health.log_source_failed("timeout", "no reply");
    assert!(!redis().0 && redis().1.starts_with("Redis Streams: timeout: no reply; since "));
    health.set_log_source_ready(true);
    assert_eq!(redis(), (true, String::new()));
    assert_eq!(health.outages(), [], "a start is no outage");

    health.set_source_ready(false);
    health.source_failed("closed", "by the server");
    health.set_source_ready(true);
    let outages = health.outages();
    let [(name, outage)] = &*outages else { panic!("one outage: {outages:?}") };
    assert_eq!((name.as_str(), outage.cause.as_deref()), ("Redis", Some("closed: by the server")));
    assert!(outage.ended.is_some());

    health.set_log_source_ready(false);
    health.set_log_source_ready(true);
    let outages = health.outages();
    let names: Vec<_> = outages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Redis Streams", "Redis"], "the newest first");
}

#[test]
fn a_backend_is_shared_and_removed_with_its_last_user() {
    let health = Health::default();
    let (one, same) = (health.backend("/", "http://b"), health.backend("/", "http://b"));
    let other = health.backend("/", "http://c");
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    other.failed("connect", "refused", Instant::now());
    let warnings = health.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].about, "backend http://c of /");
    assert!(warnings[0].detail.starts_with("connect: refused; since "));
    assert_eq!(health.backends().len(), 2);
    drop((other, one));
    assert_eq!(health.backends().len(), 1);
    assert_eq!(health.warnings(), []);
}
