//! Hosts, methods, paths, and the statuses of what leads nowhere.

use crate::support::{Gateway, Redis, Request, Upstream, Via};

/// A gateway with these routes, and the channels a stream of `request` follows there.
async fn follows(redis: &Redis, gateway: &Gateway, request: Request, channel: &str) {
    let target = request.target.clone();
    let mut stream = gateway.send(Via::Http1, request).await.stream();
    stream.ready().await;
    assert_eq!(redis.publish(channel, "x").await, 1, "{target} follows {channel}");
    assert_eq!(stream.next_event().await.data, "x");
}

#[tokio::test]
async fn parameters_of_path_and_query_name_channels() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes(
            "- path: /users/{id}/{kind}\n  events: { channels: [\"user:{id}:{kind}\", common] }\n\
             - path: /q\n  events: { channels: [\"q:{query.a}:{query.b}\"] }\n\
             - path: /rest/{*rest}\n  events: { channels: [\"{rest}\"] }\n",
        )
        .start()
        .await;
    follows(&redis, &gateway, Request::get("/users/7/orders"), "user:7:orders").await;
    follows(&redis, &gateway, Request::get("/users/8/mail"), "common").await;
    follows(&redis, &gateway, Request::get("/q?b=2&a=1&c=3"), "q:1:2").await;
    follows(&redis, &gateway, Request::get("/rest/a/b/c"), "a/b/c").await;
}

#[tokio::test]
async fn names_are_percent_decoded_once() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let cases = [
        ("/events/a%20b", "a b"),
        ("/events/a%2Fb", "a/b"),
        ("/events/100%2525", "100%25"),
        ("/events/w%C3%B6rld", "wörld"),
        ("/events/a+b", "a+b"),
        ("/events?channel=a%2520b", "a%20b"),
        ("/events?channel=a%26b%3Dc", "a&b=c"),
        ("/events?channel=one+two", "one two"),
    ];
    for (target, channel) in cases {
        follows(&redis, &gateway, Request::get(target), channel).await;
    }
}

#[tokio::test]
async fn a_host_narrows_a_route() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes(
            "- path: /events\n  host: a.example\n  events: { channels: [a] }\n\
             - path: /events\n  host: b.example\n  events: { channels: [b] }\n\
             - path: /only\n  host: a.example\n  events: { channels: [only] }\n\
             - path: /events\n  events: { channels: [any] }\n",
        )
        .start()
        .await;
    let get = |host| Request::get("/events").host(host);
    follows(&redis, &gateway, get("a.example"), "a").await;
    follows(&redis, &gateway, get("B.Example:8443"), "b").await;
    follows(&redis, &gateway, get("c.example"), "any").await;
    // Each has a label of its own.
    let metrics = gateway.metrics().await;
    for label in ["a.example/events", "b.example/events", "/events"] {
        let label = format!("route=\"{label}\"");
        assert_eq!(metrics.sum("ssegate_streams_opened_total", &[&label]), 1.0, "{label}");
    }

    for via in Via::ALL {
        let elsewhere = Request::get("/only").host("c.example");
        assert_eq!(gateway.send(via, elsewhere).await.status, 404, "{via:?}");
        let here = Request::get("/only").host("a.example");
        assert_eq!(gateway.send(via, here).await.status, 200, "{via:?}");
    }
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_404() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for target in ["/", "/nothing", "/events/a/b", "/Events/a"] {
        for via in Via::ALL {
            let response = gateway.send(via, Request::events(target)).await;
            assert_eq!(response.status, 404, "{target} via {via:?}");
        }
    }
}

#[tokio::test]
async fn a_target_that_is_no_path_leads_nowhere() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis).route(&upstream.route("/{*rest}")).start().await;
    let cases = [
        ("CONNECT", "example.com:443", 405),
        ("OPTIONS", "*", 400),
        ("GET", "example.com", 400),
        ("GET", "/events/a%ff", 400),
        ("GET", "/events?channel=a%ff", 400),
    ];
    for (method, target, status) in cases {
        let host = target.trim_start_matches(['/', '*']);
        let host = if host.starts_with("example") { host } else { "localhost" };
        let request = Request::new(method, target).host(host);
        assert_eq!(gateway.send(Via::Http1, request).await.status, status, "{method} {target}");
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for via in Via::ALL {
        let get = gateway.send(via, Request::get("/nothing")).await.text().await;
        let response = gateway.send(via, Request::new("HEAD", "/nothing")).await;
        assert_eq!(response.status, 404, "{via:?}");
        assert_eq!(response.header("content-length"), get.len().to_string(), "{via:?}");
        assert_eq!(response.text().await, "", "{via:?}");
    }
}

#[tokio::test]
async fn a_method_that_a_stream_does_not_have_is_405_and_names_those_it_has() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let response = gateway.send(Via::Http1, Request::new(method, "/events/news")).await;
        assert_eq!(response.status, 405, "{method}");
        let allow = response.header("allow").to_owned();
        assert!(allow.contains("GET") && allow.contains("HEAD"), "{allow:?}");
    }
}

#[tokio::test]
async fn methods_narrow_a_route() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes(
            "- path: /feed\n  methods: [GET]\n  events: { channels: [a] }\n\
             - path: /feed\n  methods: [POST]\n  events: { channels: [b] }\n",
        )
        .start()
        .await;
    follows(&redis, &gateway, Request::get("/feed"), "a").await;
    let response = gateway.send(Via::Http1, Request::new("DELETE", "/feed")).await;
    assert_eq!(response.status, 405);
}

#[tokio::test]
async fn the_rest_of_a_path_may_be_nothing() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes("- path: /{*rest}\n  events: { channels: [all] }\n")
        .start()
        .await;
    for target in ["/", "/a", "/a/b/c", "/a?x=1"] {
        follows(&redis, &gateway, Request::get(target), "all").await;
    }
}
