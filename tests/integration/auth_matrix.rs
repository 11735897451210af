//! Every method of authentication × credentials of every kind × every way to ask for events or for a
//! backend, over HTTP/1.1 and HTTP/2: what is allowed is 200 and has the right channel's events, the rest is
//! 401 or 403, never a stream, and nothing of it reaches the backend.
//!
//! The credentials are made by others: `PyJWT`, jose and PHP (`tests/minters`), each in one run of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::support::{
    EventStream, Gateway, Http2, Program, Redis, Request, Response, SOON, Upstream, Via, within,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const URL_KEY: &str = "fedcba9876543210fedcba9876543210";
// printf %s cron-token | sha256sum; and of deploy-token
const CRON: &str = "c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768";
const DEPLOY: &str = "e0e2baa1858c9be1a3e01469a2bc9cf12342e00ddc40e3607234a58ba1891e92";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// One channel.
    Events,
    /// One channel, from the id of an event on, which the header has.
    Resumed,
    /// The same, with the id in the query.
    ResumedByQuery,
    Pattern,
    /// Two channels in the query.
    Several,
    Backend,
    /// A stream that the backend hands over.
    Handover,
}

const TARGETS: [Target; 7] = [
    Target::Events,
    Target::Resumed,
    Target::ResumedByQuery,
    Target::Pattern,
    Target::Several,
    Target::Backend,
    Target::Handover,
];

impl Target {
    /// Path and query, behind the prefix of the method's routes.
    fn path(self) -> &'static str {
        match self {
            Self::Events => "events?channel=orders:42:7",
            Self::Resumed | Self::ResumedByQuery => "events?channel=orders:42:missed",
            Self::Pattern => "events?channel=orders:42:*",
            Self::Several => "events?channel=news&channel=orders:42:7",
            Self::Backend => "app/page?y=1",
            Self::Handover => "hold/page?y=1",
        }
    }
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// A stream: these messages are published, of which it has all but the first.
    Stream(Vec<(String, String)>),
    /// A stream that begins with this message, which was published before.
    Missed(String),
    /// The backend's response, which was told that it is this user.
    Page(String),
    Refused(u16),
}

impl Outcome {
    /// A stream of these channels, and not of `foreign`.
    fn stream<const N: usize>(foreign: &str, channels: [&str; N]) -> Self {
        let message = |channel: &str| (channel.to_owned(), format!("of {channel}"));
        Self::Stream([foreign].into_iter().chain(channels).map(message).collect())
    }

    /// What somebody with a good JSON Web Token of `user` gets, or of a signed URL by the key `user`.
    fn of_user(user: &str, target: Target) -> Self {
        let is_signed = user == "k1";
        match target {
            Target::Backend => Self::Page(user.to_owned()),
            Target::Handover if user == "43" => Self::stream("orders:42:7", ["orders:43:7"]),
            Target::Handover => Self::stream("orders:43:7", [&format!("orders:{user}:7")]),
            _ if user != "42" && !is_signed => Self::Refused(403),
            Target::Events => Self::stream("orders:43:7", ["orders:42:7"]),
            Target::Resumed | Target::ResumedByQuery => Self::Missed("orders:42:missed".to_owned()),
            Target::Pattern => Self::stream("orders:43:7", ["orders:42:9", "orders:42:7"]),
            Target::Several => Self::stream("orders:43:7", ["news", "orders:42:7"]),
        }
    }

    /// What the machine with this name gets, whose own channels end in its name.
    fn of_machine(name: &str, other: &str, target: Target) -> Self {
        let of = |channel: &str, name: &str| format!("{channel}:{name}");
        let (order, news) = (of("orders:42:7", name), of("news", name));
        let foreign = of("orders:42:7", other);
        match target {
            Target::Events => Self::stream(&foreign, [&order]),
            Target::Resumed | Target::ResumedByQuery => Self::Missed(of("orders:42:missed", name)),
            // It could match the channels of others.
            Target::Pattern => Self::Refused(403),
            Target::Several => Self::stream(&foreign, [&news, &order]),
            Target::Backend => Self::Page(name.to_owned()),
            Target::Handover => {
                Self::stream(&format!("orders:{other}:7"), [&format!("orders:{name}:7")])
            }
        }
    }
}

/// A program that makes credentials.
struct Minter {
    name: &'static str,
    made: Value,
}

impl Minter {
    async fn run(name: &'static str, program: Program, given: &Value) -> Self {
        let output = program.env("GIVEN", given.to_string()).output(SOON).await;
        let made = serde_json::from_str(&output.success()).expect(name);
        Self { name, made }
    }

    /// The three, each in another language.
    async fn all(given: &Value) -> [Self; 3] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
        let libraries = target.join("minters");
        let scripts = root.join("tests/minters");
        for needed in ["venv/bin/python", "node_modules/jose"] {
            let needed = libraries.join(needed);
            assert!(
                needed.exists(),
                "{} is missing: apt-get install python3-venv nodejs npm php-cli; tests/minters/install",
                needed.display()
            );
        }
        let python = Program::new(libraries.join("venv/bin/python")).arg(scripts.join("mint.py"));
        let node = Program::new("node").arg(scripts.join("mint.mjs")).env("MODULES", &libraries);
        let php = Program::new("php").arg(scripts.join("mint.php"));
        let (python, node, php) = tokio::join!(
            Self::run("PyJWT", python, given),
            Self::run("jose", node, given),
            Self::run("PHP", php, given),
        );
        [python, node, php]
    }

    /// The tokens: what they are, and the token.
    fn tokens(&self) -> Vec<(String, &str)> {
        let algorithms = self.made["tokens"].as_object().expect("algorithms");
        let kinds = algorithms.iter().flat_map(|(algorithm, kinds)| {
            let kinds = kinds.as_object().expect("kinds").iter();
            kinds.map(move |(kind, token)| (format!("{algorithm} {kind}"), token))
        });
        let forged = self.made["forged"].as_object().expect("forged tokens").iter();
        let forged = forged.map(|(kind, token)| (format!("forged {kind}"), token));
        kinds.chain(forged).map(|(kind, token)| (kind, token.as_str().expect("a token"))).collect()
    }

    /// The URLs of `target`: what they are, and the URL.
    fn urls(&self, target: &str) -> BTreeMap<&str, &str> {
        let kinds = self.made["urls"][target].as_object().expect(target).iter();
        kinds.map(|(kind, url)| (kind.as_str(), url.as_str().expect("a URL"))).collect()
    }
}

/// What the minters are given.
fn given() -> Value {
    let keys = include_str!("../../crates/auth/tests/openssl/keys.json");
    let keys: Value = serde_json::from_str(keys).expect("JSON");
    let pkcs8 = |name: &str| keys[name]["forms"][2].clone();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let another = ["/signed/events?channel=orders:43:7".to_owned()];
    let targets: Vec<_> = TARGETS
        .map(|target| format!("/signed/{}", target.path()))
        .into_iter()
        .chain(another)
        .collect();
    json!({
        "now": since.as_secs(),
        "secret": SECRET,
        "url_key": URL_KEY,
        "private": {"rsa": pkcs8("rsa"), "ec": pkcs8("p256"), "ed": pkcs8("ed25519")},
        "public": {"rsa": keys["rsa"]["public"], "ec": keys["p256"]["public"], "ed": keys["ed25519"]["public"]},
        "channels": ["news", "orders:42:*"],
        "others": ["news", "orders:43:*"],
        "targets": targets,
    })
}

/// The gateway, and what is around it.
struct Scene {
    redis: Redis,
    gateway: Gateway,
    http2: Http2,
    /// The requests that the backend has had.
    calls: Arc<AtomicUsize>,
    /// The id of an event before those that were missed.
    last_id: String,
    _listener: EventStream,
}

impl Scene {
    async fn start(given: &Value) -> Self {
        let (redis, backend) = (Redis::start().await, Upstream::start().await);
        let gateway = Gateway::build(&redis).routes(&routes(given, &backend)).start().await;
        let calls = Arc::<AtomicUsize>::default();
        tokio::spawn(serve(backend, Arc::clone(&calls)));
        let missed = ["orders:42:missed", "orders:42:missed:cron", "orders:42:missed:deploy"];
        let query = missed.map(|channel| format!("channel={channel}")).join("&");
        let mut listener = gateway.subscribe(&format!("/seen?{query}")).await;
        for channel in missed {
            redis.publish(channel, "seen").await;
            assert_eq!(listener.next_event().await.data, "seen");
        }
        let last_id = listener.last_id().to_owned();
        for channel in missed {
            redis.publish(channel, format!("of {channel}")).await;
            assert_eq!(listener.next_event().await.data, format!("of {channel}"));
        }
        let http2 = Http2::connect(Via::Http2, gateway.address_for(Via::Http2)).await;
        Self { redis, gateway, http2, calls, last_id, _listener: listener }
    }

    /// Sends the request over both protocols, and checks what comes of it.
    async fn check(&self, what: &str, request: Request, expected: &Outcome) {
        for via in [Via::Http1, Via::Http2] {
            let what = format!("{what} over {via:?}: {} {:?}", request.target, request.headers);
            let calls = self.calls.load(Ordering::SeqCst);
            let request = request.clone();
            let response = match via {
                Via::Http2 => within(SOON, &what, self.http2.send(request)).await,
                _ => self.gateway.send(via, request).await,
            };
            self.check_response(&what, response, expected).await;
            if matches!(expected, Outcome::Refused(_)) {
                assert_eq!(self.calls.load(Ordering::SeqCst), calls, "{what}: at the backend");
            }
        }
    }

    async fn check_response(&self, what: &str, response: Response, expected: &Outcome) {
        let status = if let Outcome::Refused(status) = expected { *status } else { 200 };
        assert_eq!(response.status, status, "{what}");
        match expected {
            Outcome::Refused(_) => {
                assert_ne!(response.header("content-type"), "text/event-stream", "{what}");
                let text = response.text().await;
                assert!(!text.contains("data:"), "{what}: {text}");
            }
            Outcome::Page(user) => {
                assert_eq!(response.text().await, format!("user={user}"), "{what}")
            }
            Outcome::Missed(channel) => {
                let event = response.stream().next_event().await;
                assert_eq!(event.data, format!("of {channel}"), "{what}");
            }
            Outcome::Stream(messages) => {
                let mut stream = response.stream();
                stream.ready().await;
                assert!(self.redis.try_publish(messages).await);
                for (_, data) in &messages[1..] {
                    assert_eq!(stream.next_event().await.data, *data, "{what}");
                }
            }
        }
    }

    /// A request to the routes of `method`. The id stands behind what is signed.
    fn request(&self, target: Target, url: &str) -> Request {
        match target {
            Target::Resumed => Request::events(url).header("last-event-id", &self.last_id),
            Target::ResumedByQuery => {
                Request::events(&format!("{url}&last_event_id={}", self.last_id))
            }
            _ => Request::events(url),
        }
    }
}

/// The routes: for each method those to events, to the backend, and for a handover.
fn routes(given: &Value, backend: &Upstream) -> String {
    let public = given["public"].as_object().expect("keys").values();
    let keys: Vec<String> = public.map(Value::to_string).chain([format!("\"{SECRET}\"")]).collect();
    let jwt = format!(
        "jwt: {{ keys: [{}], algorithms: [HS256, RS256, PS256, ES256, EdDSA], issuer: \"https://app\", \
         audience: events, from: [bearer, \"cookie:token\", \"query:token\"], leeway: 5s }}",
        keys.join(", ")
    );
    let signed = format!("signed_url: {{ keys: {{ k1: \"{URL_KEY}\", k2: \"{SECRET}\" }} }}");
    let tokens =
        format!("tokens: [{{ name: cron, sha256: {CRON} }}, {{ name: deploy, sha256: {DEPLOY} }}]");
    let upstream = backend.address();
    let route = |(prefix, auth, channel, claim): (&str, &str, &str, &str)| {
        let proxy = format!(
            "proxy: {{ upstream: \"http://{upstream}\", pass: {{ x-user: \"{{auth.id}}\" }} }}"
        );
        format!(
            "- {{ path: /{prefix}/events, events: {{ channels: [\"{channel}\"], patterns: true{claim} }}, auth: {{ {auth} }} }}\n\
             - {{ path: \"/{prefix}/app/{{*rest}}\", {proxy}, auth: {{ {auth} }} }}\n\
             - {{ path: \"/{prefix}/hold/{{*rest}}\", {proxy}, handover: {{ key: \"{URL_KEY}\" }}, auth: {{ {auth} }} }}\n"
        )
    };
    let routes = [
        ("jwt", &*jwt, "{query.channel}", ", claim: channels"),
        ("signed", &*signed, "{query.channel}", ""),
        ("tokens", &*tokens, "{query.channel}:{auth.id}", ""),
    ];
    let seen = "- { path: /seen, events: { channels: [\"{query.channel}\"] } }\n";
    routes.map(route).concat() + seen
}

/// Tells who it was told that it is, and hands over the stream of that user.
async fn serve(backend: Upstream, calls: Arc<AtomicUsize>) {
    loop {
        let call = backend.call().await;
        calls.fetch_add(1, Ordering::SeqCst);
        let user = call.header("x-user").to_owned();
        match call.line().contains("/hold/") {
            true => {
                let grip = format!("grip-hold: stream\r\ngrip-channel: orders:{user}:7\r\n");
                call.answer("200 OK", &format!("content-type: text/event-stream\r\n{grip}"), "")
                    .await;
            }
            false => call.answer("200 OK", "", &format!("user={user}")).await,
        }
    }
}

#[tokio::test]
#[ignore = "needs PyJWT, jose and php-cli: run by tests/run"]
async fn what_is_allowed_is_allowed_and_the_rest_is_401_or_403() {
    let given = given();
    let (scene, minters) = tokio::join!(Scene::start(&given), Minter::all(&given));
    for target in TARGETS {
        let path = format!("/jwt/{}", target.path());
        scene.check("no token", scene.request(target, &path), &Outcome::Refused(401)).await;
        for minter in &minters {
            check_tokens(&scene, minter, target).await;
            check_urls(&scene, minter, target).await;
        }
        check_static_tokens(&scene, target).await;
    }
}

async fn check_tokens(scene: &Scene, minter: &Minter, target: Target) {
    let path = format!("/jwt/{}", target.path());
    for (kind, token) in minter.tokens() {
        let expected = match kind.split_once(' ').expect("algorithm and kind").1 {
            "good" => Outcome::of_user("42", target),
            "another_user" => Outcome::of_user("43", target),
            _ => Outcome::Refused(401),
        };
        let what = format!("{kind} of {}", minter.name);
        let bearer = format!("Bearer {token}");
        let request = scene.request(target, &path).header("authorization", &bearer);
        scene.check(&what, request, &expected).await;
        if kind.starts_with("HS256") || kind.starts_with("forged") {
            let cookie = format!("a=b; token={token}");
            let cookie = scene.request(target, &path).header("cookie", &cookie);
            scene.check(&what, cookie, &expected).await;
            let query = scene.request(target, &format!("{path}&token={token}"));
            scene.check(&what, query, &expected).await;
        }
    }
}

async fn check_urls(scene: &Scene, minter: &Minter, target: Target) {
    let path = format!("/signed/{}", target.path());
    let another = minter.urls("/signed/events?channel=orders:43:7")["good"].to_owned();
    let stolen = another.replacen("/signed/events?channel=orders:43:7", &path, 1);
    let mut urls = minter.urls(&path);
    urls.extend([("none", &*path), ("another_user", &*stolen)]);
    for (kind, url) in urls {
        let expected = match kind {
            "good" => Outcome::of_user("k1", target),
            _ => Outcome::Refused(403),
        };
        let what = format!("{kind} URL of {}", minter.name);
        scene.check(&what, scene.request(target, url), &expected).await;
    }
}

async fn check_static_tokens(scene: &Scene, target: Target) {
    let path = format!("/tokens/{}", target.path());
    for (token, expected) in [
        ("Bearer cron-token", Outcome::of_machine("cron", "deploy", target)),
        ("Bearer deploy-token", Outcome::of_machine("deploy", "cron", target)),
        ("Bearer wrong-token", Outcome::Refused(401)),
        ("Bearer cron-tokem", Outcome::Refused(401)),
        ("Bearer cron", Outcome::Refused(401)),
        (&*format!("Bearer {CRON}"), Outcome::Refused(401)),
        ("Basic Y3Jvbjpjcm9uLXRva2Vu", Outcome::Refused(401)),
        ("Bearer", Outcome::Refused(401)),
    ] {
        let request = scene.request(target, &path).header("authorization", token);
        scene.check("a static token", request, &expected).await;
    }
    scene.check("no token", scene.request(target, &path), &Outcome::Refused(401)).await;
}
