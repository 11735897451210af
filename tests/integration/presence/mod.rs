//! Routes with `presence`: who listens to a channel, over all gateways.

mod clustered;
mod events;
mod failures;
mod rights;
mod webhooks;

use serde_json::{Value, json};

use crate::auth::{jwt, of, seconds, token};
use crate::support::{EventStream, Gateway, GatewayBuilder, Redis, Request, SOON, Via, eventually};

/// Streams by path, by query and of one user, with listeners that are known, and one route without.
const ROUTES: &str = "\
- path: /events/{channel}
  events: { channels: [\"{channel}\"] }
  presence: { identify: \"{auth.id}\", grace: 1s }
- path: /events
  events: { channels: [\"{query.channel}\"], strip_prefix: \"\" }
  presence: { identify: \"{auth.id}\", grace: 1s }
- path: /deep/{*rest}
  events: { channels: [\"{rest}\"] }
  presence: { identify: \"{auth.id}\", grace: 1s }
- path: /app/{channel}
  events: { channels: [\"{channel}\"], strip_prefix: \"app:\" }
  presence: { identify: \"{auth.id}\", grace: 1s, max_members: 2 }
- path: /mine
  events: { channels: [\"user:{auth.id}\"] }
  presence: { identify: \"{auth.id}\", grace: 1s }
- path: /claimed
  events: { channels: [\"{query.channel}\"], claim: channels }
  presence: { identify: \"{claim.name}\", grace: 1s }
- path: /room/{channel}
  events: { channels: [\"{channel}\"] }
  presence: { identify: \"{auth.id}\", grace: 1s, events: true }
- path: /plain/{channel}
  events: { channels: [\"{channel}\"] }
";

fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).settings(&jwt(", from: [bearer, \"cookie:token\"]")).routes(ROUTES)
}

/// A request of a user.
fn by(user: &str, request: Request) -> Request {
    request.header("authorization", &format!("Bearer {}", of(user, &json!({}))))
}

/// Opens a stream of a user, which is ready.
async fn listen(gateway: &Gateway, user: &str, target: &str) -> EventStream {
    let mut stream = gateway.send(Via::Http1, by(user, Request::events(target))).await.stream();
    stream.ready().await;
    stream
}

/// Who listens, as this user is told.
async fn ask(gateway: &Gateway, user: &str, target: &str) -> Value {
    let response = gateway.send(Via::Http1, by(user, Request::get(target))).await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    assert_eq!(response.header("cache-control"), "no-store");
    serde_json::from_str(&response.text().await).expect("JSON")
}

/// The listeners of the only channel, each with its number of streams.
async fn members(gateway: &Gateway, target: &str) -> Vec<(String, u64)> {
    let told = ask(gateway, "asker", target).await;
    let channels = told["channels"].as_array().expect("a list");
    assert_eq!(channels.len(), 1, "{told}");
    let members = channels[0]["members"].as_array().expect("a list");
    assert_eq!(channels[0]["count"], members.len(), "{told}");
    let now = seconds(0);
    let one = |member: &Value| {
        let since = member["since"].as_i64().expect("a time") / 1000;
        assert!((now - 600..=now + 5).contains(&since), "{member}");
        let id = member["id"].as_str().expect("text").to_owned();
        (id, member["connections"].as_u64().expect("a number"))
    };
    let mut members: Vec<_> = members.iter().map(one).collect();
    members.sort();
    members
}

async fn becomes(gateway: &Gateway, target: &str, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect();
    let mut seen = Vec::new();
    let check = async || {
        seen = members(gateway, target).await;
        seen == expected
    };
    eventually(SOON, &format!("{target} has {expected:?}"), check).await;
}

#[tokio::test]
async fn who_listens_is_known_at_every_gateway() {
    let redis = Redis::start().await;
    let (one, two) = (build(&redis).start().await, build(&redis).start().await);
    let first = listen(&one, "ann", "/events/news").await;
    assert_eq!(members(&one, "/events/news/presence").await, [("ann".to_owned(), 1)]);
    let second = listen(&two, "ann", "/events/news").await;
    let third = listen(&two, "bob", "/deep/news").await;
    let both = [("ann", 2), ("bob", 1)];
    for gateway in [&one, &two] {
        becomes(gateway, "/events/news/presence", &both).await;
        becomes(gateway, "/events/presence?channel=news", &both).await;
        becomes(gateway, "/deep/news/presence", &both).await;
        assert_eq!(
            ask(gateway, "asker", "/events/news/presence?count").await,
            json!({"channels": [{"channel": "news", "count": 2}]})
        );
        assert_eq!(
            ask(gateway, "asker", "/events/presence?count&channel=news&channel=none").await,
            json!({"channels": [{"channel": "news", "count": 2}, {"channel": "none", "count": 0}]})
        );
    }
    drop(first);
    becomes(&one, "/events/news/presence", &[("ann", 1), ("bob", 1)]).await;
    drop(second);
    becomes(&one, "/events/news/presence", &[("bob", 1)]).await;
    // A channel that was left leaves nothing in Redis.
    drop(third);
    let keys = async || redis.command::<Vec<String>>(&["KEYS", "*"]).await.is_empty();
    eventually(SOON, "no key is left", keys).await;
    let is_empty = async || one.metrics().await.sum("ssegate_presence_members", &[]) == 0.0;
    eventually(SOON, "nobody is left", is_empty).await;
}

#[tokio::test]
async fn who_listens_is_known_without_a_redis() {
    let gateway = build(&Redis::stopped(&[])).redis_url("embedded://127.0.0.1:0").start().await;
    let ann = [
        listen(&gateway, "ann", "/events/news").await,
        listen(&gateway, "ann", "/events?channel=news").await,
    ];
    let _bob = listen(&gateway, "bob", "/events/news").await;
    becomes(&gateway, "/events/news/presence", &[("ann", 2), ("bob", 1)]).await;
    drop(ann);
    becomes(&gateway, "/events/news/presence", &[("bob", 1)]).await;
    assert_eq!(
        ask(&gateway, "asker", "/events/presence?channel=news&count=").await,
        json!({"channels": [{"channel": "news", "count": 1}]})
    );
}

#[tokio::test]
async fn the_path_of_a_stream_stays_its_own() {
    let redis = Redis::start().await;
    let own = "- { path: \"/app/own/presence\", events: { channels: [own] } }\n";
    let gateway = build(&redis).route(own).start().await;
    // A channel called so, a route without presence, and a route with such a path.
    for (target, status) in [
        ("/events/presence", 400),
        ("/plain/news/presence", 404),
        ("/deep/presence", 200),
        ("/app/own/presence", 200),
        ("/events/news/other", 404),
        ("/presence", 404),
    ] {
        let response = gateway.send(Via::Http1, by("ann", Request::events(target))).await;
        assert_eq!(response.status, status, "{target}");
    }
    let _ann = listen(&gateway, "ann", "/app/news").await;
    becomes(&gateway, "/app/news/presence", &[("ann", 1)]).await;
    let told = ask(&gateway, "ann", "/app/news/presence").await;
    assert_eq!(told["channels"][0]["channel"], "news", "without its prefix");
    let head =
        gateway.send(Via::Http2, by("ann", Request::new("HEAD", "/app/news/presence"))).await;
    assert_eq!((head.status, head.text().await), (200, String::new()));
    let post =
        gateway.send(Via::Http1, by("ann", Request::new("POST", "/app/news/presence"))).await;
    assert_eq!(post.status, 405);
}

#[tokio::test]
async fn who_may_not_listen_may_not_learn() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let _ann = listen(&gateway, "ann", "/mine").await;
    becomes(&gateway, "/events/presence?channel=user:ann", &[("ann", 1)]).await;
    assert_eq!(ask(&gateway, "ann", "/mine/presence").await["channels"][0]["count"], 1);
    assert_eq!(ask(&gateway, "bob", "/mine/presence").await["channels"][0]["count"], 0, "his own");
    let claims = json!({"channels": ["a"], "name": "Al"});
    let claimed = format!("Bearer {}", of("al", &claims));
    let wrong = format!("Bearer {}x", of("al", &claims));
    let expired = format!("Bearer {}", token(&json!({"sub": "al", "exp": seconds(-60)})));
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    let cookie = format!("token={}", of("ann", &json!({})));
    let own = [("cookie", cookie.as_str())];
    let by_foreign = [own[0], foreign[0], foreign[1]];
    // As the stream itself, whether there is somebody or not.
    for (headers, stream, status) in [
        (&[][..], "/events/user:ann", 401),
        (&[], "/events/nobody", 401),
        (&[("authorization", &*wrong)], "/events/user:ann", 401),
        (&[("authorization", &*expired)], "/events/user:ann", 401),
        (&[("authorization", &*claimed)], "/claimed?channel=user:ann", 403),
        (&[("authorization", &*claimed)], "/claimed?channel=nobody", 403),
        (&[("authorization", &*claimed)], "/claimed?channel=a", 200),
        (&[("authorization", &*claimed)], "/claimed?channel=ssegate:x", 400),
        (&by_foreign, "/mine", 403),
        (&own, "/mine", 200),
    ] {
        let (path, query) = stream.split_once('?').unwrap_or((stream, ""));
        let presence = format!("{path}/presence?{query}");
        let mut told = Vec::new();
        for target in [stream, &presence] {
            let mut request = Request::events(target);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let response = gateway.send(Via::Http1, request).await;
            assert_eq!(response.status, status, "{target} {headers:?}");
            if status != 200 {
                told.push(response.text().await);
            }
        }
        assert!(told.is_empty() || told[0] == told[1], "{told:?}");
    }
}

#[tokio::test]
async fn a_listener_without_a_name_or_without_room_is_not_known_and_listens_all_the_same() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let claims = json!({"channels": ["a"]});
    let nameless = Request::events("/claimed?channel=a")
        .header("authorization", &format!("Bearer {}", of("al", &claims)));
    let mut nameless = gateway.send(Via::Http1, nameless).await.stream();
    nameless.ready().await;
    gateway.counts("ssegate_presence_refused_total", &["reason=\"id\""], 1.0).await;
    let mut streams = Vec::new();
    for user in ["ann", "bob", "cat"] {
        streams.push(listen(&gateway, user, "/app/news").await);
    }
    gateway.counts("ssegate_presence_refused_total", &["reason=\"full\""], 1.0).await;
    becomes(&gateway, "/app/news/presence", &[("ann", 1), ("bob", 1)]).await;
    redis.publish("app:news", "hello").await;
    redis.publish("a", "hello").await;
    for stream in streams.iter_mut().chain([&mut nameless]) {
        assert_eq!(stream.next_event().await.data, "hello");
    }
    // Who left makes room.
    drop(streams.remove(0));
    becomes(&gateway, "/app/news/presence", &[("bob", 1), ("cat", 1)]).await;
}
