use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use ssegate_auth::jwt::{Key, KeySet};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::{FetchReport, keep_fresh};
use crate::auth::jwks::fetch::{FetchedKeys, JwksError};
use crate::auth::jwks::remote_keys::{KeysSnapshot, NewerKeys, RemoteKeys};
use crate::health::Health;
use crate::metrics::Metrics;

const SECOND: Duration = Duration::from_secs(1);

/// A server of keys, as the fetches see it.
#[derive(Clone, Default)]
struct KeyServer(Rc<KeyServerState>);

#[derive(Default)]
struct KeyServerState {
    /// The key that it has; `None`: it is away.
    key: Cell<Option<u8>>,
    takes: Cell<Duration>,
    max_age: Cell<Option<Duration>>,
    fetches: RefCell<Vec<Instant>>,
}

impl KeyServer {
    fn with(key: Option<u8>) -> Self {
        let server = Self::default();
        server.0.key.set(key);
        server
    }

    async fn fetch(&self) -> Result<FetchedKeys, JwksError> {
        self.0.fetches.borrow_mut().push(Instant::now());
        let key = self.0.key.get();
        sleep(self.0.takes.get()).await;
        let key = key.ok_or(JwksError::Status(StatusCode::BAD_GATEWAY))?;
        Ok(FetchedKeys { keys: set(key), max_age: self.0.max_age.get() })
    }

    fn count(&self) -> usize {
        self.0.fetches.borrow().len()
    }

    /// The pauses between the fetches, in seconds.
    fn pauses(&self) -> Vec<f64> {
        let fetches = self.0.fetches.borrow();
        fetches.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
    }
}

fn set(key: u8) -> KeySet {
    [Key::from_secret(&[key; 32])].into_iter().collect()
}

/// Whether the keys are the set with this one.
fn is(keys: &KeysSnapshot, key: u8) -> bool {
    keys.keys.as_deref() == Some(&set(key))
}

/// Runs `test` while keys are kept fresh with what `server` has.
async fn kept_fresh(server: &KeyServer, test: impl AsyncFnOnce(Rc<RemoteKeys>, Health)) {
    let (keys, health) = (Rc::new(RemoteKeys::new()), Health::default());
    let report = FetchReport {
        url: "http://keys".into(),
        health: health.clone(),
        metrics: Metrics::new().expect("metrics"),
        failing: Vec::new(),
    };
    let (own, server) = (Rc::clone(&keys), server.clone());
    LocalSet::new()
        .run_until(async move {
            let fetch = async || server.fetch().await;
            tokio::select! {
                () = keep_fresh(&own, fetch, report) => unreachable!("it never returns"),
                () = test(keys, health) => {}
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_every_ten_minutes_or_as_the_server_says() {
    for (max_age, most) in
        [(None, 600.0), (Some(1), 60.0), (Some(3600), 3600.0), (Some(1 << 30), 86_400.0)]
    {
        let server = KeyServer::with(Some(1));
        server.0.max_age.set(max_age.map(Duration::from_secs));
        kept_fresh(&server, async |keys, _| {
            sleep(Duration::from_secs_f64(most * 3.05)).await;
            assert!(is(&keys.newest(), 1));
        })
        .await;
        let pauses = server.pauses();
        assert!(pauses.len() >= 3, "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| (most * 0.9 - 1.0..=most + 1.0).contains(pause)),
            "{pauses:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_request_after_a_rotation_has_the_new_key() {
    let server = KeyServer::with(Some(1));
    kept_fresh(&server, async |keys, _| {
        sleep(SECOND).await;
        let seen = keys.newest();
        server.0.key.set(Some(2));
        server.0.takes.set(SECOND);
        // Many requests with unknown keys cause one fetch.
        let requests = (0..100).map(|_| keys.newer_than(&seen));
        for newer in futures_of(requests).await {
            assert!(matches!(&newer, NewerKeys::Fetched(newer) if is(newer, 2)), "{newer:?}");
        }
        assert_eq!(server.count(), 2);
        // And none for a minute.
        let seen = keys.newest();
        for _ in 0..58 {
            assert!(matches!(keys.newer_than(&seen).await, NewerKeys::Unchanged(_)));
            sleep(SECOND).await;
        }
        assert_eq!(server.count(), 2);
        sleep(2 * SECOND).await;
        assert!(matches!(keys.newer_than(&seen).await, NewerKeys::Fetched(_)));
        assert_eq!(server.count(), 3);
    })
    .await;
}

/// Waits for all of them at the same time.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test(start_paused = true)]
async fn old_keys_stay_while_the_server_is_away_and_nothing_can_be_said_of_new_ones() {
    let server = KeyServer::with(Some(1));
    kept_fresh(&server, async |keys, health| {
        sleep(SECOND).await;
        let seen = keys.newest();
        server.0.key.set(None);
        assert!(matches!(keys.newer_than(&seen).await, NewerKeys::Unknown));
        assert!(is(&keys.newest(), 1));
        let warning = health.warnings().remove(0);
        assert_eq!(warning.about, "keys of http://keys");
        assert!(warning.detail.contains("502"), "{}", warning.detail);
        assert!(matches!(keys.newer_than(&seen).await, NewerKeys::Unknown));
        // Fetched again without any request.
        server.0.key.set(Some(2));
        sleep(3 * SECOND).await;
        assert!(is(&keys.newest(), 2));
        assert!(health.warnings().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_two_seconds_for_a_slow_server() {
    let server = KeyServer::with(Some(1));
    server.0.takes.set(7 * SECOND / 2);
    kept_fresh(&server, async |keys, _| {
        let start = Instant::now();
        assert!(matches!(keys.newer_than(&keys.newest()).await, NewerKeys::Unknown));
        assert_eq!(start.elapsed(), 2 * SECOND);
        assert!(keys.newest().keys.is_none());
        let newer = keys.newer_than(&keys.newest()).await;
        assert!(matches!(&newer, NewerKeys::Fetched(newer) if is(newer, 1)), "{newer:?}");
        assert_eq!((start.elapsed(), server.count()), (7 * SECOND / 2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_from_the_start_is_asked_again_soon_and_no_request_waits() {
    let server = KeyServer::with(None);
    kept_fresh(&server, async |keys, _| {
        sleep(Duration::from_millis(10)).await;
        let start = Instant::now();
        for _ in 0..100 {
            assert!(matches!(keys.newer_than(&keys.newest()).await, NewerKeys::Unknown));
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(300)).await;
        server.0.key.set(Some(1));
        sleep(Duration::from_secs(61)).await;
        assert!(is(&keys.newest(), 1));
    })
    .await;
    let pauses = server.pauses();
    assert!(pauses.iter().all(|pause| *pause <= 61.0), "{pauses:?}");
    assert!(
        pauses[0] >= 0.9 && pauses.iter().filter(|pause| **pause < 59.0).count() >= 5,
        "{pauses:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_not_fetched_and_shown_no_more() {
    let server = KeyServer::with(None);
    let shown = Rc::new(RefCell::new(Health::default()));
    kept_fresh(&server, async |_, health| {
        sleep(SECOND / 2).await;
        assert_eq!(health.warnings().len(), 1);
        *shown.borrow_mut() = health;
    })
    .await;
    assert!(shown.borrow().warnings().is_empty());
    sleep(Duration::from_secs(600)).await;
    assert_eq!(server.count(), 1);
}
