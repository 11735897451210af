//! The smallest honest gateway on what crates offer: hyper's HTTP/1.1 and HTTP/2, tokio-rustls, the redis
//! crate, and tokio's `broadcast` between them, on one thread.
//!
//! It sends the bytes that the gateway sends on a plain route (ids included), encodes an event once, and
//! keeps quiet streams alive. So the difference to the gateway is what our own HTTP/2, queues and Redis
//! reader gain. What it lacks only makes it cheaper: no history and no resuming, no gap (a reader that lags
//! is closed, and starts anew), no bound on a reader that stops, no metrics. It follows a channel for as long
//! as it runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OnceCell, broadcast};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::ReusableBoxFuture;

use super::{Running, Site, free_address, redis, words};
use crate::Outcome;
use crate::process::Process;
use crate::publisher::Way;

/// The first argument of this program when it is to be this gateway.
pub(crate) const ROLE: &str = "--be-the-stock-gateway";

const PATH: &str = "/events/";
const OPENING: &[u8] = b":\nretry: 3000\n: ready\n";
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that may wait for a reader before it is closed.
const MAX_WAITING: usize = 1024;

pub(super) fn start(site: &Site) -> Outcome<Running> {
    let (redis, publish_at) = redis::start(site)?;
    let [plain, tls] = std::array::from_fn(|_| free_address());
    let arguments = words([
        ROLE,
        &plain.to_string(),
        &tls.to_string(),
        &format!("redis://{publish_at}/?protocol=resp3"),
        &site.certificate.certificate.display().to_string(),
        &site.certificate.key.display().to_string(),
    ]);
    let program = std::env::current_exe()?;
    let cores = &site.cores.servers;
    let process = Process::start("stock", cores, &site.directory, program, &arguments)?;
    Ok(Running {
        processes: vec![process],
        support: vec![redis],
        plain,
        tls: Some(tls),
        path: PATH,
        way: Way::Redis,
        publish_at,
        admin: None,
    })
}

/// Runs the gateway, until it is ended.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let [plain, tls, redis, certificate, key] = arguments else {
        return Err("two addresses, a Redis, a certificate and its key are needed".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let acceptor = acceptor(certificate, key)?;
        let gateway = Arc::new(Gateway::connect(redis).await?);
        let (plain, tls) = (plain.parse()?, tls.parse()?);
        tokio::try_join!(
            accept(plain, None, Arc::clone(&gateway)),
            accept(tls, Some(acceptor), gateway)
        )?;
        Ok(())
    })
}

fn acceptor(certificate: &str, key: &str) -> Outcome<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Gateway {
    channels: Arc<Channels>,
    redis: MultiplexedConnection,
}

/// The channels that are followed, by name.
struct Channels {
    run: String,
    number: AtomicU64,
    followed: Mutex<HashMap<String, Arc<Channel>>>,
}

struct Channel {
    events: broadcast::Sender<Bytes>,
    subscribed: OnceCell<()>,
}

impl Gateway {
    async fn connect(url: &str) -> Outcome<Self> {
        let run = std::iter::repeat_with(fastrand::lowercase).take(6).collect();
        let channels = Channels { run, number: AtomicU64::new(1), followed: Mutex::default() };
        let channels = Arc::new(channels);
        let heard = Arc::clone(&channels);
        let config = AsyncConnectionConfig::new().set_push_sender(move |push| {
            heard.publish(push);
            Ok::<_, Infallible>(())
        });
        let client = Client::open(url)?;
        let redis = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { channels, redis })
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Outcome<Response<Events>> {
        let Some(name) = request.uri().path().strip_prefix(PATH) else {
            let mut response = Response::new(Events::none());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        };
        let channel = self.channels.channel(name);
        let events = channel.events.subscribe();
        let subscribe = async || self.redis.clone().subscribe(name).await;
        channel.subscribed.get_or_try_init(subscribe).await?;
        Ok(Response::builder()
            .header(CONTENT_TYPE, "text/event-stream; charset=utf-8")
            .header(CACHE_CONTROL, "no-store")
            .header("x-accel-buffering", "no")
            .body(Events::of(events))?)
    }
}

impl Channels {
    fn channel(&self, name: &str) -> Arc<Channel> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = followed.entry(name.to_owned()).or_insert_with(|| {
            let (events, _) = broadcast::channel(MAX_WAITING);
            Arc::new(Channel { events, subscribed: OnceCell::new() })
        });
        Arc::clone(channel)
    }

    fn publish(&self, push: PushInfo) {
        let (PushKind::Message, [Value::BulkString(name), Value::BulkString(payload)]) =
            (push.kind, &push.data[..])
        else {
            return;
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(channel) = str::from_utf8(name).ok().and_then(|name| followed.get(name)) else {
            return;
        };
        let mut frame = Vec::with_capacity(payload.len() + 64);
        for line in payload.split(|&byte| byte == b'\n') {
            frame.extend_from_slice(b"data: ");
            frame.extend_from_slice(line);
            frame.push(b'\n');
        }
        frame.extend_from_slice(format!("id: {}-{number}\n\n", self.run).as_bytes());
        // An error means that there are no subscribers.
        let _listeners = channel.events.send(frame.into());
    }
}

/// Accepts connections, for ever.
async fn accept(
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    gateway: Arc<Gateway>,
) -> Outcome<Infallible> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (tls, gateway) = (tls.clone(), Arc::clone(&gateway));
        tokio::spawn(async move {
            // The result does not matter: the connection has ended.
            drop(serve(socket, tls, gateway).await);
        });
    }
}

async fn serve(socket: TcpStream, tls: Option<TlsAcceptor>, gateway: Arc<Gateway>) -> Outcome {
    let service = service_fn(move |request| {
        let responding = Arc::clone(&gateway).respond(request);
        async { responding.await.map_err(|error| error.to_string()) }
    });
    let Some(tls) = tls else {
        return Ok(http1::Builder::new().serve_connection(TokioIo::new(socket), service).await?);
    };
    let stream = tls.accept(socket).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let server = http2::Builder::new(TokioExecutor::new());
        return Ok(server.serve_connection(TokioIo::new(stream), service).await?);
    }
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
}

/// The result of waiting for the next event, and the receiver, which is used again.
type Next = (Result<Bytes, RecvError>, broadcast::Receiver<Bytes>);

/// The body of a stream.
struct Events {
    opening: Option<Bytes>,
    next: Option<ReusableBoxFuture<'static, Next>>,
    keep_alive: Pin<Box<Sleep>>,
}

impl Events {
    fn none() -> Self {
        Self { opening: None, next: None, keep_alive: Box::pin(tokio::time::sleep(KEEP_ALIVE)) }
    }

    fn of(events: broadcast::Receiver<Bytes>) -> Self {
        Self {
            opening: Some(Bytes::from_static(OPENING)),
            next: Some(ReusableBoxFuture::new(receive(events))),
            ..Self::none()
        }
    }

    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        if let Poll::Ready((event, events)) = next.poll(context) {
            // A reader that lags has missed events: its stream ends, and it comes back.
            let Ok(event) = event else {
                self.next = None;
                return Poll::Ready(None);
            };
            next.set(receive(events));
            self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
            return Poll::Ready(Some(event));
        }
        ready!(self.keep_alive.as_mut().poll(context));
        self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Bytes::from_static(b":\n")))
    }
}

async fn receive(mut events: broadcast::Receiver<Bytes>) -> Next {
    (events.recv().await, events)
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = ready!(self.get_mut().poll_text(context));
        Poll::Ready(text.map(|text| Ok(Frame::data(text))))
    }
}
