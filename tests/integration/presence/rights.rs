//! What Redis does not let the gateway do.

use super::{ask, becomes, build, by, listen};
use crate::support::{Redis, Request, Via};

/// The user that is shipped, without the selector in which this stands.
async fn user_without(redis: &Redis, right: &str) -> String {
    let shipped = include_str!("../../../deploy/redis-users.acl");
    let user = shipped.lines().find(|line| line.starts_with("user ssegate ")).unwrap();
    let (rights, selectors) = user.split_once(" (").unwrap();
    let selectors = selectors.split(" (").filter(|selector| !selector.contains(right));
    let selectors: String = selectors.map(|selector| format!(" ({selector}")).collect();
    let words = format!("{}{selectors}", rights.trim_start_matches("user "));
    let command: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(words.split(' ')).collect();
    redis.command::<String>(&command).await;
    redis.url().replace("redis://", "redis://ssegate:listens@")
}

#[tokio::test]
async fn the_rights_that_are_shipped_suffice_for_presence() {
    let redis = Redis::start().await;
    let url = user_without(&redis, "nothing").await;
    let gateway = build(&redis).redis_url(&url).start().await;
    let mut ann = listen(&gateway, "ann", "/room/news").await;
    becomes(&gateway, "/room/news/presence", &[("ann", 1)]).await;
    let counted = ask(&gateway, "ann", "/events/presence?channel=news&count").await;
    assert_eq!(counted["channels"][0]["count"], 1);
    // Her own join may have been told before her stream was ready.
    let _bob = listen(&gateway, "bob", "/room/news").await;
    assert_eq!(ann.next_event().await.name, "presence");
    assert!(!gateway.log().contains("NOPERM"), "{}", gateway.log());
}

#[tokio::test]
async fn without_the_right_to_keys_presence_says_so_once_and_streams_go_on() {
    let redis = Redis::start().await;
    let url = user_without(&redis, "~ssegate:presence:").await;
    let gateway = build(&redis).redis_url(&url).start().await;
    let mut ann = listen(&gateway, "ann", "/events/news").await;
    gateway.logs("presence does not work").await;
    let refused = gateway.send(Via::Http1, by("ann", Request::get("/events/news/presence"))).await;
    assert_eq!(refused.status, 503);
    // It is tried again, and said once.
    gateway.counts("ssegate_redis_errors_total", &["kind=\"permission\""], 2.0).await;
    assert_eq!(gateway.log().matches("presence does not work").count(), 1);
    let ready = gateway.admin("/readyz?verbose").await;
    assert_eq!(ready.status, 200, "streams do not need it");
    let ready = ready.text().await;
    assert!(ready.contains("presence: permission: ") && ready.contains("NOPERM"), "{ready}");
    redis.publish("news", "hello").await;
    assert_eq!(ann.next_event().await.data, "hello");
}

#[tokio::test]
async fn without_the_right_to_publish_joins_are_not_told_and_the_rest_works() {
    let redis = Redis::start().await;
    let url = user_without(&redis, "&ssegate:presence:").await;
    let gateway = build(&redis).redis_url(&url).start().await;
    let mut ann = listen(&gateway, "ann", "/room/news").await;
    gateway.logs("streams get no join and leave events").await;
    let bob = listen(&gateway, "bob", "/room/news").await;
    becomes(&gateway, "/room/news/presence", &[("ann", 1), ("bob", 1)]).await;
    drop(bob);
    becomes(&gateway, "/room/news/presence", &[("ann", 1)]).await;
    assert_eq!(gateway.log().matches("streams get no join and leave events").count(), 1);
    let ready = gateway.admin("/readyz?verbose").await.text().await;
    assert!(ready.contains("joins and leaves: refused: "), "{ready}");
    redis.publish("news", "hello").await;
    assert_eq!(ann.next_event().await.data, "hello");
}
