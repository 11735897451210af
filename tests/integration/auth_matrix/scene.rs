//! The gateway with the routes of every method, and what is around it.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::{CRON, DEPLOY, GONE, Outcome, SECRET, Target, URL_KEY, USERS};
use crate::support::{
    Call, EventStream, Gateway, Http2, Redis, Request, Response, SOON, Upstream, Via, Witness,
    within,
};

/// The gateway, and what is around it.
pub(super) struct Scene {
    redis: Redis,
    gateway: Gateway,
    http2: Http2,
    backend: Witness,
    /// The id of an event before those that were missed.
    last_id: String,
    _users: NamedTempFile,
    _listener: EventStream,
}

impl Scene {
    pub(super) async fn start(given: &Value) -> Self {
        let (redis, backend) = (Redis::start().await, Witness::start(answer).await);
        let judge = start_judge().await;
        let mut users = NamedTempFile::new().unwrap();
        users.write_all(USERS.as_bytes()).unwrap();
        let routes = routes(given, &backend, &judge, &users);
        let gateway = Gateway::build(&redis).settings("revocation: {}").routes(&routes);
        let gateway = gateway.start().await;
        let of_machines = ["cron", "deploy", "ann", "bob"];
        let of_machines = of_machines.map(|name| format!("orders:42:missed:{name}"));
        let missed: Vec<_> =
            ["orders:42:missed".to_owned()].into_iter().chain(of_machines).collect();
        let query: Vec<_> = missed.iter().map(|channel| format!("channel={channel}")).collect();
        let mut listener = gateway.subscribe(&format!("/seen?{}", query.join("&"))).await;
        for channel in &missed {
            redis.publish(channel, "seen").await;
            assert_eq!(listener.next_event().await.data, "seen");
        }
        let last_id = listener.last_id().to_owned();
        for channel in &missed {
            redis.publish(channel, format!("of {channel}")).await;
            assert_eq!(listener.next_event().await.data, format!("of {channel}"));
        }
        let http2 = Http2::connect(Via::Http2, gateway.address_for(Via::Http2)).await;
        Self { redis, gateway, http2, backend, last_id, _users: users, _listener: listener }
    }

    /// Revokes, with a call on the admin listener.
    pub(super) async fn revoke(&self, what: &Value) {
        let request = Request::new("POST", "/revoke").header("content-type", "application/json");
        let request = request.body(what.to_string().as_bytes());
        let response = request.send(Via::Http1, self.gateway.address("admin")).await;
        assert_eq!(response.status, 200, "{what}");
    }

    /// Sends the request over both protocols, and checks what comes of it.
    pub(super) async fn check(&self, what: &str, request: Request, expected: &Outcome) {
        for via in [Via::Http1, Via::Http2] {
            let what = format!("{what} over {via:?}: {} {:?}", request.target, request.headers);
            let calls = self.backend.heads().len();
            let request = request.clone();
            let response = match via {
                Via::Http2 => within(SOON, &what, self.http2.send(request)).await,
                _ => self.gateway.send(via, request).await,
            };
            self.check_response(&what, response, expected).await;
            if matches!(expected, Outcome::Refused(_) | Outcome::NotNow) {
                assert_eq!(self.backend.heads().len(), calls, "{what}: at the backend");
            }
        }
    }

    async fn check_response(&self, what: &str, response: Response, expected: &Outcome) {
        let status = if let Outcome::Refused(status) = expected { *status } else { 200 };
        assert_eq!(response.status, status, "{what}");
        match expected {
            Outcome::Refused(_) => {
                let kind = response.header("content-type").to_owned();
                assert!(!kind.starts_with("text/event-stream"), "{what}: {kind}");
                let text = response.text().await;
                assert!(!text.contains("data:"), "{what}: {text}");
            }
            Outcome::NotNow => {
                let mut stream = response.stream();
                let mut retry = None;
                while let Some(block) = stream.block().await {
                    assert!(block.event.is_none(), "{what}: {block:?}");
                    retry = block.retry.or(retry);
                }
                assert!(retry.is_some(), "{what}: it says when to come back");
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
    pub(super) fn request(&self, target: Target, url: &str) -> Request {
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
fn routes(given: &Value, backend: &Witness, judge: &SocketAddr, users: &NamedTempFile) -> String {
    let public = given["public"].as_object().expect("keys").values();
    let keys: Vec<String> = public.map(Value::to_string).chain([format!("\"{SECRET}\"")]).collect();
    let jwt = format!(
        "jwt: {{ keys: [{}], algorithms: [HS256, RS256, PS256, ES256, EdDSA], issuer: \"https://app\", \
         audience: events, from: [bearer, \"cookie:token\", \"query:token\"], leeway: 5s }}",
        keys.join(", ")
    );
    let signed = format!(
        "signed_url: {{ keys: {{ k1: \"{URL_KEY}\", k2: \"{SECRET}\", k3: \"{URL_KEY}\" }} }}"
    );
    let tokens = [("cron", CRON), ("deploy", DEPLOY), ("gone", GONE)];
    let tokens =
        tokens.map(|(name, hash)| format!("{{ name: {name}, sha256: {hash} }}")).join(", ");
    let tokens = format!("tokens: [{tokens}]");
    let forward = format!("forward: {{ url: \"http://{judge}/auth\", copy_headers: [x-user] }}");
    let basic = format!("basic: {{ users: \"{}\" }}", users.path().display());
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
        ("forward", &*forward, "{query.channel}:{auth.id}", ""),
        ("basic", &*basic, "{query.channel}:{auth.id}", ""),
    ];
    let seen = "- { path: /seen, events: { channels: [\"{query.channel}\"] } }\n";
    routes.map(route).concat() + seen
}

/// Tells who it was told that it is, and hands over the stream of that user.
fn answer(call: &Call) -> (String, String) {
    let user = call.header("x-user").to_owned();
    match call.line().contains("/hold/") {
        true => {
            let grip = format!("grip-hold: stream\r\ngrip-channel: orders:{user}:7\r\n");
            (format!("content-type: text/event-stream\r\n{grip}"), String::new())
        }
        false => (String::new(), format!("user={user}")),
    }
}

/// A backend that decides by the cookie `session`: it knows the sessions of some, and one that may not listen.
async fn start_judge() -> SocketAddr {
    let backend = Upstream::start().await;
    let address = backend.address();
    tokio::spawn(async move {
        loop {
            let call = backend.next_call().await;
            let session = call.header("cookie").strip_prefix("session=").unwrap_or_default();
            let (status, user) = match session {
                "of-ann" | "of-bob" | "of-carol" => ("204 No Content", &session["of-".len()..]),
                "of-banned" => ("403 Forbidden", "banned"),
                "breaks" => ("500 Internal Server Error", "ann"),
                _ => ("401 Unauthorized", "ann"),
            };
            let fields = format!("x-user: {user}\r\n");
            call.answer(status, &fields, "").await;
        }
    });
    address
}
