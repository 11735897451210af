//! What the gateway is like now, as JSON for the status page.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use ssegate_hub::{BusyChannel, Topic};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::StatusSetup;
use super::requests::RequestWindow;
use crate::health::{BackendHealth, BackendSilence, Health, Outage};
use crate::metrics::{Figures, LatencyBuckets, Metrics};
use crate::service::{HubQuestion, HubView, ShardQuestion, ShardView, SlowReader, TopicView};

/// The most channels and readers that are listed.
const MAX_LISTED: usize = 10;
/// The most upstreams that are listed: those that fail come first.
const MAX_UPSTREAMS: usize = 50;
/// How long a thread may take to reply. The report is sent without what is missing then.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// The most failures of backends that are listed.
const MAX_FAILURES: usize = 10;
/// The window of the delivery latency, in seconds.
const LATENCY_SECONDS: usize = 10;

/// Makes one report after the other. Keeps the figures of the one before, to compute rates.
#[derive(Debug)]
pub(super) struct Reporter<'a> {
    setup: &'a StatusSetup,
    health: &'a Health,
    metrics: &'a Metrics,
    urls: &'a [String],
    before: Option<(Instant, Figures)>,
    // Of the last seconds, the newest last.
    latencies: VecDeque<LatencyBuckets>,
    requests: RequestWindow,
    looked: Option<Instant>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        setup: &'a StatusSetup,
        (health, metrics): (&'a Health, &'a Metrics),
        urls: &'a [String],
    ) -> Self {
        let (before, latencies, looked) = (None, VecDeque::new(), None);
        let requests = RequestWindow::default();
        Self { setup, health, metrics, urls, before, latencies, requests, looked }
    }

    /// The report of now. Rates are null in the first one.
    pub(super) async fn report(&mut self) -> Value {
        let hub = self.ask_hub().await;
        // The messages of the channels were counted now.
        let now = Instant::now();
        let since_look = self.looked.replace(now).map(|before| now - before);
        let topics: Arc<[Topic]> =
            hub.iter().flat_map(|view| &view.busiest).map(|busy| busy.topic.clone()).collect();
        let shards = self.ask_shards(&topics).await;
        let figures = self.metrics.figures();
        let mut report = self.figures(Instant::now(), &figures);
        let (requests, failing_routes) = self.requests.feed(now, &figures.requests);
        let health = self.health;
        let checks = health.checks().into_iter();
        let problems = health.warnings().into_iter();
        let mut add = |name: &str, value: Value| report[name] = value;
        add("requests", requests);
        add("version", env!("CARGO_PKG_VERSION").into());
        add("now", json!(unix(SystemTime::now())));
        add("draining", health.is_draining().into());
        let is_private = self.setup.privacy.holds();
        add("private", is_private.into());
        add("publishes", (self.setup.publishes && is_private).into());
        add("urls", json!(self.urls));
        add("checks", checks.map(|check| {
            json!({"name": check.name, "about": check.about, "passes": check.passes, "degraded": check.is_degraded, "detail": check.detail})
        }).collect());
        add(
            "warnings",
            problems
                .map(|it| json!({"about": it.about, "detail": it.detail}))
                .chain(failing_routes)
                .collect(),
        );
        add(
            "source",
            json!({
                "embedded": health.is_source_embedded(),
                "ready": health.is_source_ready(),
                "reconnects": figures.reconnects,
                "outages": health.outages().iter().map(outage).collect::<Vec<_>>(),
            }),
        );
        add("upstreams", upstreams(health));
        add("limits", hub.as_ref().map_or(Value::Null, |view| json!({
            "queues": view.max_queue_bytes, "histories": view.max_history_bytes, "channels": view.max_channels,
        })));
        if is_private {
            add("busiest", json!(hub.map(|view| busiest(&view.busiest, since_look, &shards))));
            add("slowest", slowest(&shards));
        }
        report
    }

    /// What the metrics say.
    fn figures(&mut self, now: Instant, figures: &Figures) -> Value {
        let before = self.before.replace((now, figures.clone()));
        let rate = |count: fn(&Figures) -> u64| {
            let (at, before) = before.as_ref()?;
            per_second(count(figures).saturating_sub(count(before)), now - *at)
        };
        let rates = json!({
            "in": rate(|of| of.messages), "out": rate(|of| of.events), "bytes": rate(|of| of.bytes),
        });
        self.latencies.push_back(figures.latency.clone());
        if self.latencies.len() > LATENCY_SECONDS + 1 {
            self.latencies.pop_front();
        }
        let oldest = self.latencies.front().filter(|_| self.latencies.len() > 1);
        let quantile = |share| figures.latency.quantile(oldest?, share);
        let streams = figures.streams.iter().filter(|of| of.open > 0);
        json!({
            "rates": rates,
            "latency": {"p50": quantile(0.5), "p99": quantile(0.99)},
            "open": figures.streams.iter().map(|of| of.open).sum::<i64>(),
            "streams": streams.map(|of| {
                json!({"route": of.route, "protocol": of.protocol, "open": of.open})
            }).collect::<Vec<_>>(),
            "subscriptions": figures.subscriptions,
            "channels": figures.channels,
            "connections": figures.connections,
            "closed": figures.streams_closed,
            "gaps": figures.gaps,
            "dropped": figures.dropped,
            "queues": figures.queue_bytes,
            "histories": figures.history_bytes,
            "certificates": figures.certificates.iter().map(|of| {
                json!({"listener": of.listener, "file": of.file, "ends": of.ends})
            }).collect::<Vec<_>>(),
            "certificate_reloads": figures.certificate_reloads,
            "kept": {"states": figures.kept, "bytes": figures.kept_bytes},
            "fleet_received": figures.fleet_received,
            "recorded": {
                "entries": figures.recorded.0,
                "gaps": figures.recorded.1,
                "dropped": figures.recorded_dropped,
                "waiting": figures.recorded_waiting,
            },
            "members": figures.members,
            "webhooks": {"results": figures.webhooks, "waiting": figures.webhooks_waiting},
        })
    }

    async fn ask_hub(&self) -> Option<HubView> {
        let (reply, answer) = oneshot::channel();
        let question = HubQuestion { max: MAX_LISTED, reply };
        self.setup.inspection.hub.try_send(question).ok()?;
        timeout_at(Instant::now() + ANSWER_TIMEOUT, answer).await.ok()?.ok()
    }

    /// Asks all shards. Leaves out those that do not reply in time.
    async fn ask_shards(&self, topics: &Arc<[Topic]>) -> Vec<ShardView> {
        let ask = |shard: &tokio::sync::mpsc::Sender<ShardQuestion>| {
            let (reply, answer) = oneshot::channel();
            let question =
                ShardQuestion::Readers { topics: Arc::clone(topics), max: MAX_LISTED, reply };
            shard.try_send(question).ok().map(|()| answer)
        };
        // All are asked before the first reply is awaited, so that they work at the same time.
        let answers: Vec<_> = self.setup.inspection.shards.iter().filter_map(ask).collect();
        let end = Instant::now() + ANSWER_TIMEOUT;
        let mut views = Vec::new();
        for answer in answers {
            views.extend(timeout_at(end, answer).await.ok().and_then(Result::ok));
        }
        views
    }
}

fn busiest(busiest: &[BusyChannel], since: Option<Duration>, shards: &[ShardView]) -> Vec<Value> {
    let channel = |(place, busy): (usize, &BusyChannel)| {
        let views = || shards.iter().filter_map(|shard| shard.topics.get(place));
        let known_as = views().find_map(|view: &TopicView| view.known_as.as_ref());
        let rate = since.and_then(|since| per_second(u64::from(busy.messages), since));
        json!({
            "channel": busy.topic.subscription.name.in_redis(),
            "pattern": busy.topic.subscription.is_pattern,
            "rate": rate,
            "readers": views().map(|view| view.readers).sum::<usize>(),
            "known_as": known_as,
        })
    };
    // The first view counts from the start of the gateway, which gives no current rate.
    let busiest = if since.is_some() { busiest } else { &[] };
    busiest.iter().enumerate().map(channel).collect()
}

fn slowest(shards: &[ShardView]) -> Value {
    let mut slow: Vec<&SlowReader> = shards.iter().flat_map(|shard| &shard.slowest).collect();
    slow.sort_by_key(|reader| Reverse(reader.behind));
    let reader = |reader: &&SlowReader| {
        json!({
            "client": format!("{:08x}", reader.client),
            "route": reader.route,
            "queued": reader.queued_bytes,
            "channel": reader.channel,
            "channels": reader.channels,
            "behind": reader.behind.as_secs_f64(),
        })
    };
    slow.iter().take(MAX_LISTED).map(reader).collect()
}

fn upstreams(health: &Health) -> Value {
    let now = Instant::now();
    let mut backends = health.backends();
    // Those that fail first.
    backends.sort_by_cached_key(|it| {
        let is_well = !it.is_unreachable() && it.incidents().is_empty();
        (is_well, it.route().to_owned(), it.upstream().to_owned())
    });
    let upstream = |it: &Arc<BackendHealth>| {
        let BackendSilence { requests, lasts } = it.silence(now);
        json!({
            "route": it.route(),
            "upstream": it.upstream(),
            "reachable": !it.is_unreachable(),
            "problems": it.incidents(),
            "waiting": requests,
            "silent": lasts.as_secs_f64(),
        })
    };
    let failures = |it: &Arc<BackendHealth>| {
        let named = (it.route().to_owned(), it.upstream().to_owned());
        it.outages().into_iter().map(move |outage| (named.clone(), outage)).collect::<Vec<_>>()
    };
    let mut failures: Vec<_> = backends.iter().flat_map(failures).collect();
    failures.sort_by_key(|(_, outage)| Reverse(outage.began));
    let failure = |((route, upstream), failure): &((String, String), Outage)| {
        let mut value = outage(&(String::new(), failure.clone()));
        (value["route"], value["upstream"]) = (json!(route), json!(upstream));
        value
    };
    json!({
        "count": backends.len(),
        "list": backends.iter().take(MAX_UPSTREAMS).map(upstream).collect::<Vec<_>>(),
        "failures": failures.iter().take(MAX_FAILURES).map(failure).collect::<Vec<_>>(),
    })
}

fn outage((source, outage): &(String, Outage)) -> Value {
    json!({
        "source": source,
        "began": unix(outage.began),
        "ended": outage.ended.map(unix),
        "cause": outage.cause,
        "failures": outage.failures,
    })
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second are far below 2^52")]
fn per_second(count: u64, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Reporter;
    use crate::admin::{AdminAuth, AdminPrivacy, StatusSetup};
    use crate::health::Health;
    use crate::metrics::Metrics;
    use crate::service::{HubView, ShardQuestion, ShardView, SlowReader, StatusInspection};

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_since_the_report_before_and_the_slowest_of_all_shards_come_first() {
        let (inspection, (mut hub, shards)) = StatusInspection::new(2);
        let answers = tokio::spawn(async move {
            while let Some(question) = hub.recv().await {
                drop(question.reply.send(HubView { max_queue_bytes: 99, ..HubView::default() }));
            }
        });
        for (shard, mut questions) in shards.into_iter().enumerate() {
            drop(tokio::spawn(async move {
                while let Some(question) = questions.recv().await {
                    let ShardQuestion::Readers { reply, .. } = question else { continue };
                    let slow = SlowReader {
                        route: Some("/events".into()),
                        client: 0xab,
                        queued_bytes: 10,
                        channel: Some("news".into()),
                        channels: 1,
                        behind: Duration::from_secs(1 + shard as u64),
                    };
                    drop(reply.send(ShardView { slowest: vec![slow], topics: Vec::new() }));
                }
            }));
        }
        let (health, metrics) = (Health::default(), Metrics::new().expect("metrics"));
        let setup = StatusSetup {
            inspection,
            privacy: AdminPrivacy::new(true, AdminAuth::default()),
            publishes: true,
        };
        let mut reporter = Reporter::new(&setup, (&health, &metrics), &[]);
        metrics.source_messages(1000);
        let first = reporter.report().await;
        assert!(first["rates"]["in"].is_null(), "{first}");
        metrics.source_messages(50);
        tokio::time::advance(Duration::from_secs(2)).await;
        let second = reporter.report().await;
        let rate = second["rates"]["in"].as_f64();
        assert!(rate.is_some_and(|rate| (rate - 25.0).abs() < 0.1), "{second}");
        assert_eq!(second["limits"]["queues"], 99);
        let behind = second["slowest"].as_array().expect("a list").iter();
        assert_eq!(behind.map(|it| it["behind"].clone()).collect::<Vec<_>>(), [2.0, 1.0]);
        assert_eq!(second["slowest"][0]["client"], "000000ab");
        assert_eq!(second["slowest"][0]["channel"], "news");
        answers.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn backends_are_reported_with_what_waits_and_when_they_failed() {
        let (inspection, _questions) = StatusInspection::new(1);
        let (health, metrics) = (Health::default(), Metrics::new().expect("metrics"));
        let privacy = AdminPrivacy::new(false, AdminAuth::default());
        let setup = StatusSetup { inspection, privacy, publishes: false };
        let mut reporter = Reporter::new(&setup, (&health, &metrics), &[]);
        let [backend, other] = ["http://a", "http://b"].map(|it| health.backend("/", it));
        let _wait = other.wait(Instant::now());
        backend.failed("connect", "cannot connect: refused", Instant::now());
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(reporter.report().await);
        let route = metrics.route("/");
        (0..20).for_each(|_| route.response_sent(500));
        tokio::time::advance(Duration::from_secs(1)).await;
        let report = reporter.report().await;
        let list = &report["upstreams"]["list"];
        assert_eq!((&list[1]["upstream"], &list[1]["waiting"]), (&"http://b".into(), &1.into()));
        assert!(list[1]["silent"].as_f64() >= Some(4.0), "{list}");
        let failures = &report["upstreams"]["failures"];
        assert_eq!(failures[0]["cause"], "cannot connect: refused", "{failures}");
        assert_eq!(
            (&failures[0]["upstream"], failures.as_array().map(Vec::len)),
            (&"http://a".into(), Some(1))
        );
        assert_eq!(report["requests"][0]["errors"], 1.0);
        let warnings = report["warnings"].as_array().expect("a list");
        assert!(warnings.iter().any(|it| it["about"] == "route /"), "{warnings:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_many_may_look_nothing_of_clients_is_reported() {
        let (inspection, _questions) = StatusInspection::new(1);
        let (health, metrics) = (Health::default(), Metrics::new().expect("metrics"));
        let setup = StatusSetup {
            inspection,
            privacy: AdminPrivacy::new(false, AdminAuth::default()),
            publishes: true,
        };
        let report = Reporter::new(&setup, (&health, &metrics), &[]).report().await;
        assert!(report["busiest"].is_null() && report["slowest"].is_null(), "{report}");
        assert_eq!(report["publishes"], false);
        assert!(report["limits"].is_null(), "nobody answered, and the report came all the same");
    }
}
