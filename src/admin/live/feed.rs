//! One report a second, for everybody who looks; nothing while nobody does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use ssegate_sse::frame::Form;
use ssegate_sse::{Event, encode};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::StatusSetup;
use super::report::Reporter;
use crate::health::Health;
use crate::metrics::Metrics;

/// Where the reports are.
pub(super) const PATH: &str = "/status/events";

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a page waits before it opens the stream again.
const RETRY: Duration = Duration::from_secs(2);
/// The opening of the stream and one report. A viewer that does not read misses reports; only the newest counts.
const MAX_WAITING: usize = 2;

/// The reports, for everybody who looks. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Feed(Rc<FeedState>);

#[derive(Debug)]
struct FeedState {
    setup: StatusSetup,
    health: Health,
    metrics: Metrics,
    urls: Vec<String>,
    viewers: RefCell<Vec<mpsc::Sender<Bytes>>>,
    // The newest report, for those who come between two of them.
    newest: RefCell<Option<Bytes>>,
    is_running: Cell<bool>,
}

impl Feed {
    pub(super) fn new(
        setup: &StatusSetup,
        (health, metrics): (Health, Metrics),
        urls: &[String],
    ) -> Self {
        Self(Rc::new(FeedState {
            setup: setup.clone(),
            health,
            metrics,
            urls: urls.to_vec(),
            viewers: RefCell::default(),
            newest: RefCell::default(),
            is_running: Cell::new(false),
        }))
    }

    /// The reports from now on; the first one at once.
    pub(super) fn watch(&self) -> mpsc::Receiver<Bytes> {
        let (sender, texts) = mpsc::channel(MAX_WAITING);
        let opening = encode::opening(RETRY).bytes(Form::Text);
        let newest = self.0.newest.borrow().clone();
        for text in [opening].into_iter().chain(newest) {
            sender.try_send(text).expect("there is room for both");
        }
        self.0.viewers.borrow_mut().push(sender);
        if !self.0.is_running.replace(true) {
            let feed = self.clone();
            // Detached: it ends with the last viewer.
            drop(tokio::task::spawn_local(async move { feed.run().await }));
        }
        texts
    }

    async fn run(&self) {
        let FeedState { setup, health, metrics, urls, .. } = &*self.0;
        let mut reporter = Reporter::new(setup, (health, metrics), urls);
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.is_watched() {
                break;
            }
            // Read before the report is made, so that the last report says that the gateway drains.
            let is_last = health.is_draining();
            self.send(&reporter.report().await);
            if is_last {
                break;
            }
        }
        self.0.viewers.borrow_mut().clear();
        self.0.newest.take();
        self.0.is_running.set(false);
    }

    fn is_watched(&self) -> bool {
        let mut viewers = self.0.viewers.borrow_mut();
        viewers.retain(|viewer| !viewer.is_closed());
        !viewers.is_empty()
    }

    fn send(&self, report: &Value) {
        let event = Event { name: None, data: report.to_string().into(), id: None, retry: None };
        let text = encode::frame(&event, None).bytes(Form::Text);
        for viewer in &*self.0.viewers.borrow() {
            // A viewer whose queue is full misses this report.
            drop(viewer.try_send(text.clone()));
        }
        self.0.newest.replace(Some(text));
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::{Feed, StatusSetup};
    use crate::admin::{AdminAuth, AdminPrivacy};
    use crate::health::Health;
    use crate::metrics::Metrics;
    use crate::service::StatusInspection;

    fn feed(health: &Health) -> Feed {
        // Nothing receives the questions: a report does not wait for replies.
        let (inspection, _questions) = StatusInspection::new(2);
        let setup = StatusSetup {
            inspection,
            privacy: AdminPrivacy::new(true, AdminAuth::default()),
            publishes: false,
        };
        Feed::new(&setup, (health.clone(), Metrics::new().expect("metrics")), &[])
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_sent_the_same_reports_and_nothing_is_left_after_the_last() {
        LocalSet::new()
            .run_until(async {
                let feed = feed(&Health::default());
                let mut first = feed.watch();
                let opening = first.recv().await.expect("an opening");
                assert!(opening.starts_with(b":\nretry: "));
                let report = first.recv().await.expect("a report");
                assert!(report.starts_with(b"data: {") && report.ends_with(b"\n\n"));
                let mut second = feed.watch();
                assert_eq!(second.recv().await, Some(opening));
                assert_eq!(second.recv().await, Some(report), "the newest, at once");
                let next = first.recv().await;
                assert!(next.is_some() && next == second.recv().await);
                drop((first, second));
                tokio::time::sleep(2 * super::INTERVAL).await;
                assert!(!feed.0.is_running.get() && feed.0.viewers.borrow().is_empty());
                assert!(feed.0.newest.borrow().is_none());
                assert!(feed.watch().recv().await.is_some(), "it runs again");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_gateway_drains_a_stream_is_one_report() {
        LocalSet::new()
            .run_until(async {
                let health = Health::default();
                health.set_draining();
                let mut texts = feed(&health).watch();
                let (_opening, report) = (texts.recv().await, texts.recv().await);
                let report = String::from_utf8_lossy(&report.expect("a report")).into_owned();
                assert!(report.contains(r#""draining":true"#), "{report}");
                assert_eq!(texts.recv().await, None);
            })
            .await;
    }
}
