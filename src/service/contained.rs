//! A response body whose panic does not end its connection or thread.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Service;
#[cfg(debug_assertions)]
use super::panic_injection;
use super::request_log::RequestLog;
use crate::server::carrier::{BodyFailed, FramedBody};
use crate::server::connection::BodyError;
use crate::server::contain::contain;

/// A body that ends with an error if it panics.
#[derive(Debug)]
pub struct ContainedBody<B> {
    body: Option<B>,
    service: Service,
    // `None`: it is not logged, or has its own lines.
    log: Option<Box<RequestLog>>,
    #[cfg(debug_assertions)]
    polls_left: Option<panic_injection::Polls>,
}

impl<B> ContainedBody<B> {
    pub(super) fn new(body: B, service: Service) -> Self {
        Self {
            body: Some(body),
            service,
            log: None,
            #[cfg(debug_assertions)]
            polls_left: None,
        }
    }

    /// Sets the line of its request in the access log.
    pub(super) fn log_in(&mut self, log: Option<Box<RequestLog>>) {
        self.log = log;
    }

    /// Makes the body panic after this number of polls, for tests.
    #[cfg(debug_assertions)]
    pub(super) fn inject_panic(self, polls_left: Option<panic_injection::Polls>) -> Self {
        Self { polls_left, ..self }
    }

    /// Calls `poll` with the body. `None` if it panics, and at every call after that.
    fn contain_poll<T>(&mut self, poll: impl FnOnce(&mut B) -> T) -> Option<T> {
        let body = self.body.as_mut()?;
        let work = || {
            #[cfg(debug_assertions)]
            panic_injection::poll(&mut self.polls_left);
            poll(body)
        };
        match contain(work) {
            Ok(polled) => Some(polled),
            Err(_panicked) => {
                self.service.metrics().panicked("body");
                self.body = None;
                None
            }
        }
    }
}

/// Records in the access log what a poll of the body has returned. `is_over`: the body is complete.
fn note_progress(
    log: &mut RequestLog,
    polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>,
    is_over: bool,
) {
    match polled {
        Poll::Ready(Some(Ok(frame))) => {
            let length = frame.data_ref().map_or(0, Bytes::len);
            log.note_sent(length, is_over);
        }
        Poll::Ready(Some(Err(_))) => log.note_error("body_failed"),
        Poll::Ready(None) => log.note_sent(0, true),
        Poll::Pending => {}
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for ContainedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = this
            .contain_poll(|body| Pin::new(body).poll_frame(cx))
            .unwrap_or_else(|| Poll::Ready(Some(Err("the body has panicked".into()))));
        if let Some(log) = &mut this.log {
            let is_over = this.body.as_ref().is_some_and(Body::is_end_stream);
            note_progress(log, &polled, is_over);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: FramedBody> FramedBody for ContainedBody<B> {
    fn is_framed(&self) -> bool {
        self.body.as_ref().is_some_and(FramedBody::is_framed)
    }

    fn poll_chunks(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyFailed>>> {
        self.contain_poll(|body| body.poll_chunks(context))
            .unwrap_or(Poll::Ready(Some(Err(BodyFailed))))
    }

    fn note_progress(&self) {
        if let Some(body) = &self.body {
            body.note_progress();
        }
    }

    fn probe(&self) {
        if let Some(body) = &self.body {
            body.probe();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body::{Body, Frame};
    use http_body_util::BodyExt as _;
    use ssegate_format::Format;
    use ssegate_hub::{Hub, HubSettings, Shard, SourceKind, StreamSettings};
    use ssegate_sse::Event;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::LocalRuntime;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::ContainedBody;
    use crate::auth::SharedAuth;
    use crate::health::Health;
    use crate::log::{AccessLog, LogOutput, LogSettings};
    use crate::metrics::Metrics;
    use crate::route::ServerList;
    use crate::route::{CorsSettings, EventsSettings, RouteSettings, Router, Target};
    use crate::server::ConnectionSettings;
    use crate::server::clients::Clients;
    use crate::server::connection::BodyError;
    use crate::server::descriptors::DescriptorShortage;
    use crate::server::limits::GlobalLimits;
    use crate::server::listener::{Acceptor, Listener, ShardHandle};
    use crate::server::shard_server::ShardServer;
    use crate::service::StreamShards;
    use crate::service::{KeptStreams, RequestSettings, Service, SharedStreams};
    use crate::source::SourceLocation;
    use crate::source::presence::Presence;
    use crate::source::publishing::Publisher;

    /// The path of a request whose handler panics, in unit tests.
    pub(in crate::service) const PANICS: &str = "/panics";

    const SOON: Duration = Duration::from_secs(10);

    fn events() -> RouteSettings {
        RouteSettings {
            path: "/events".into(),
            host: None,
            methods: Vec::new(),
            target: Target::Events(EventsSettings {
                channels: vec!["news".into()],
                format: Format::Raw,
                source: crate::route::EventsSource::PubSub,
                server: crate::route::ServerChoice::First,
                history: None,
                strip_prefix: String::new(),
                patterns: false,
                sharded: false,
                follow: Vec::new(),
                max_channels: 1,
                claim: None,
                stream: StreamSettings::default(),
                ready: crate::route::Ready::Auto,
            }),
            auth: None,
            cors: CorsSettings::default(),
            handover: None,
            keep: None,
            share: None,
            presence: None,
        }
    }

    /// A server with one shard, and its hub.
    struct TestServer {
        hub: Hub,
        service: Service,
        metrics: Metrics,
        address: SocketAddr,
    }

    impl TestServer {
        async fn new() -> Self {
            let metrics = Metrics::new().expect("metrics");
            let (hub, mut links) = Hub::new(HubSettings::default(), 1, metrics.clone());
            let link = links.pop().expect("one link");
            let shard = Shard::new(link, SOON, metrics.for_shard());
            let (_, mut links) = Hub::new(HubSettings::default(), 1, ());
            let sharing = Shard::new(links.pop().expect("one link"), SOON, ());
            let bus = SourceLocation::Embedded(([127, 0, 0, 1], 0).into());
            let kept = KeptStreams::new(metrics.clone(), &bus);
            let (shared, _) = SharedStreams::new(metrics.clone());
            let router = Arc::new(Router::new(&[Arc::new(events())], None).expect("routes"));
            let health = Health::default();
            let auth = SharedAuth::default();
            let requests = (RequestSettings::default(), Clients::default(), auth);
            let limits = GlobalLimits::new(DescriptorShortage::default(), metrics.clone());
            let memory = limits.upload_memory.clone();
            let access =
                AccessLog::new(&LogSettings::default(), &LogOutput::none(), metrics.clone());
            let presence = Presence::new(&router, metrics.clone());
            let service = Service::new(
                router,
                requests,
                (StreamShards::new(std::slice::from_ref(&shard), ServerList::default()), sharing),
                (Publisher::new(1 << 20).0, kept, shared, presence),
                health,
                (metrics.clone(), access),
                memory,
            );
            let load = Arc::new(AtomicUsize::new(0));
            let settings = ConnectionSettings::default();
            let server = ShardServer::new(
                service.clone(),
                settings,
                limits,
                Arc::clone(&load),
                metrics.clone(),
            );

            let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = socket.local_addr().expect("an address");
            let (sender, accepted) = mpsc::channel(8);
            let acceptor = Acceptor {
                socket,
                listener: 0,
                shards: Rc::new([ShardHandle { accepted: sender, load }]),
                max_connections: Rc::new(Cell::new(8)),
                shortage: DescriptorShortage::default(),
                metrics: metrics.clone(),
            };
            let listeners = vec![Rc::new(Listener { address, tls: None, proxy_protocol: false })];
            let (hub_runner, source) = (hub.clone(), hub.clone());
            drop(tokio::task::spawn_local(async move { hub_runner.run().await }));
            drop(tokio::task::spawn_local(async move { shard.run().await }));
            drop(tokio::task::spawn_local(async move { server.run(accepted, listeners).await }));
            drop(tokio::task::spawn_local(acceptor.run(CancellationToken::new())));
            drop(tokio::task::spawn_local(async move {
                loop {
                    for (subscription, _) in source.source_requests(SourceKind::PubSub).await {
                        source.confirm(false, subscription.name.as_str());
                    }
                    source.flush();
                }
            }));
            Self { hub, service, metrics, address }
        }

        fn publish(&self, data: &'static str) {
            self.hub.begin_message(b"news", None);
            self.hub.publish(false, "news", tokio::time::Instant::now(), |_| {
                Some(Event { data: Bytes::from_static(data.as_bytes()), ..Event::default() })
            });
            self.hub.flush();
        }

        fn panics(&self, cost: &str) -> bool {
            let line = format!("ssegate_panics_total{{cost=\"{cost}\"}} 1\n");
            self.metrics.render().expect("text").contains(&line)
        }
    }

    /// Reads a body until it contains `text`.
    async fn read_until(body: &mut h2::RecvStream, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let data = body.data().await.expect("the stream is open").expect("no stream error");
            body.flow_control().release_capacity(data.len()).expect("the data was received");
            seen.push_str(str::from_utf8(&data).expect("text"));
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = LocalRuntime::new().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(SOON, test).await.expect("the test ends in time");
        });
    }

    #[test]
    fn a_panic_in_a_handler_fails_only_its_request() {
        run(async {
            let server = TestServer::new().await;
            let socket = TcpStream::connect(server.address).await.expect("connected");
            let (client, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
            drop(tokio::task::spawn_local(connection));
            let get = |path: &str| {
                Request::get(format!("http://localhost{path}")).body(()).expect("a request")
            };
            let mut client = client.ready().await.expect("ready");
            let (stream, _) = client.send_request(get("/events"), true).expect("sent");
            let mut stream = stream.await.expect("a response").into_body();
            read_until(&mut stream, ": ready").await;

            let (failed, _) = client.send_request(get(PANICS), true).expect("sent");
            assert_eq!(failed.await.expect("a response").status(), 500);
            assert!(server.panics("request"));
            server.publish("still here");
            read_until(&mut stream, "still here").await;

            let mut asks = get(PANICS);
            asks.headers_mut().insert("accept", "text/event-stream".parse().expect("a value"));
            let (away, _) = client.send_request(asks, true).expect("sent");
            let away = away.await.expect("a response");
            assert_eq!(away.status(), 200, "an EventSource reconnects");
        });
    }

    /// A body that panics.
    #[derive(Debug)]
    struct Panics;

    impl Body for Panics {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            panic!("a bug")
        }
    }

    #[test]
    fn a_panic_in_a_body_ends_it_with_an_error() {
        run(async {
            let server = TestServer::new().await;
            let body = ContainedBody::new(Panics, server.service.clone());
            let mut response = Response::new(body);
            for _ in 0..2 {
                let frame = response.body_mut().frame().await.expect("an error, not an end");
                assert!(frame.is_err());
            }
            assert!(server.panics("body"), "counted once");
        });
    }
}
