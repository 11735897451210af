//! The PHP publishers of `examples/php`: each runs as it is, and what it publishes arrives.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{EventStream, Gateway, Process, Program, Redis, SOON, eventually};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/php");

/// A gateway with the routes of the examples' own gateway.yaml.
async fn gateway(redis: &Redis) -> Gateway {
    let file = std::fs::read_to_string(Path::new(EXAMPLES).join("gateway.yaml")).unwrap();
    let routes = file.split_once("routes:\n").expect("the file has routes").1;
    Gateway::build(redis).routes(routes).start().await
}

/// Starts a script that publishes `count` times, quickly.
fn publish(script: &str, redis: &Redis, count: &str) -> Process {
    Program::new("/usr/bin/php")
        .arg(Path::new(EXAMPLES).join(script))
        .args(["--count", count])
        .env("REDIS_URL", redis.url())
        .env("INTERVAL_MS", "20")
        .start()
}

async fn ends_well(mut script: Process) {
    assert!(script.exit_within(Duration::from_secs(30)).await.success(), "{}", script.log());
    assert_eq!(script.log(), "", "no notice, no warning");
}

#[tokio::test]
#[ignore = "needs php-cli and php-redis: run by tests/run"]
async fn the_servers_time_and_a_random_number_arrive() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream: EventStream = gateway.subscribe("/events/time").await;
    let script = publish("time.php", &redis, "5");
    for _ in 0..5 {
        let event = stream.next_event().await;
        assert_eq!(event.name, "message");
        let lines: Vec<_> = event.data.lines().collect();
        let [time, number] = lines[..] else { panic!("{event:?}") };
        assert!(time.starts_with("The server time is "), "{time}");
        let number = number.strip_prefix("A random number is ").expect("a number");
        assert!((1..=1000).contains(&number.parse::<u32>().unwrap()), "{number}");
    }
    ends_well(script).await;
}

#[tokio::test]
#[ignore = "needs php-cli and php-redis: run by tests/run"]
async fn a_script_that_is_started_first_waits_until_there_is_somebody_to_publish_to() {
    let mut redis = Redis::stopped(&[]);
    let script = publish("time.php", &redis, "5");
    let waits = async || script.log().contains("waiting for Redis at 127.0.0.1:");
    eventually(SOON, "it waits", waits).await;
    let goes_on = async || script.log().contains(" (20): ");
    eventually(SOON, "it tries again and again", goes_on).await;
    redis.restart().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events/time").await;
    let _another = publish("time.php", &redis, "5");
    assert!(stream.next_event().await.data.starts_with("The server time is "));
    drop(script);
}

#[tokio::test]
#[ignore = "needs php-cli and php-redis: run by tests/run"]
async fn named_pings_and_a_plain_message_arrive() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events/ping").await;
    let script = publish("ping.php", &redis, "10");
    let (mut pings, mut messages) = (0, 0);
    while pings < 10 || messages == 0 {
        let event = stream.next_event().await;
        match event.name.as_str() {
            "ping" => {
                let data: Value = serde_json::from_str(&event.data).unwrap();
                assert!(data["time"].as_str().is_some_and(|time| time.contains('T')), "{data}");
                pings += 1;
            }
            "message" => {
                assert!(event.data.starts_with("This is a message at time "), "{event:?}");
                messages += 1;
            }
            other => panic!("{other}: {event:?}"),
        }
    }
    ends_well(script).await;
}

#[tokio::test]
#[ignore = "needs php-cli and php-redis: run by tests/run"]
async fn records_of_two_fields_arrive() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events/record").await;
    let script = publish("record.php", &redis, "5");
    for _ in 0..5 {
        let record: Value = serde_json::from_str(&stream.next_event().await.data).unwrap();
        assert_eq!(record["city"], "Zürich");
        assert!(record["temperature"].is_number(), "{record}");
        assert_eq!(record.as_object().unwrap().len(), 2);
    }
    ends_well(script).await;
}
