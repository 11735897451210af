//! Sharded channels at one server, which is no Cluster: clients resume at any gateway there, too.

use super::marks::{KEY, ROUTES, gaps, open, target};
use crate::support::{Gateway, GatewayBuilder, Redis, SOON, Via, eventually};

fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).routes(ROUTES).settings(KEY)
}

async fn start(redis: &Redis) -> Gateway {
    let gateway = build(redis).start().await;
    gateway.becomes(200, 2 * SOON).await;
    gateway
}

async fn publish(redis: &Redis, channel: &str, data: &str) -> u64 {
    redis.command(&["SPUBLISH", channel, data]).await
}

/// Comes with this id, and reads until `last`, which is published once it is subscribed.
async fn comes_to(
    (redis, gateway, via): (&Redis, &Gateway, Via),
    channels: &[&str],
    id: &str,
) -> Vec<String> {
    let mut stream = gateway.resume(via, &target(channels), id).await;
    let mut read = stream.read_until_ready().await;
    publish(redis, channels[0], "last").await;
    read.append(&mut stream.read_until("last").await);
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_sharded_channels_of_one_server_resume_at_any_gateway() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    let via = Via::H2c;
    for channels in [&["one"][..], &["a", "b", "c"]] {
        let mut followers =
            [open(&gateways[0], via, channels).await, open(&gateways[1], via, channels).await];
        for channel in channels {
            assert_eq!(publish(&redis, channel, "before").await, 2);
            for follower in &mut followers {
                assert_eq!(follower.next_event().await.data, "before");
            }
        }
        let mut id = followers[0].last_id().to_owned();
        for (round, at) in [1, 0, 1].into_iter().enumerate() {
            let missed = format!("missed {round}");
            for channel in channels {
                publish(&redis, channel, &missed).await;
            }
            let mut stream = gateways[at].resume(via, &target(channels), &id).await;
            for _ in channels {
                let event = stream.next_event().await;
                assert_eq!((event.name.as_str(), &event.data), ("message", &missed));
                id = event.id;
            }
        }
    }

    // One that starts asks what the others follow; one that drains answers.
    let quiet = ["quiet"];
    let id = open(&gateways[0], via, &quiet).await.last_id().to_owned();
    let third = start(&redis).await;
    let [mut first, second] = gateways;
    publish(&redis, "quiet", "meanwhile").await;
    first.terminate();
    first.exit_within(4 * SOON).await;
    assert_eq!(comes_to((&redis, &third, via), &quiet, &id).await, ["meanwhile", "last"]);
    let counted = third.metrics().await;
    assert_eq!(counted.sum("ssegate_fleet_clients_total", &["result=\"gap\""]), 0.0);

    // The connections are lost: a gap for who is there, and for who comes with an id from before.
    let mut stays = open(&second, via, &quiet).await;
    let id = stays.last_id().to_owned();
    redis.kill_listeners_and_spublish("quiet", "lost").await;
    eventually(SOON, "all listen again", async || publish(&redis, "quiet", "again").await == 2)
        .await;
    publish(&redis, "quiet", "last").await;
    let read = stays.read_until("last").await;
    assert!(gaps(&read) == 1 && !read.contains(&"lost".to_owned()), "{read:?}");
    let read = comes_to((&redis, &third, via), &quiet, &id).await;
    assert!(gaps(&read) == 1, "{read:?}");
    assert!(!third.log().contains("clients cannot resume"), "{}", third.log());
}

#[tokio::test]
async fn whether_sharded_channels_of_one_server_can_be_resumed_elsewhere_is_told() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let check = async |user: &str| {
        let builder = build(&redis).redis_url(&redis.url().replace("://", &format!("://{user}@")));
        builder.program(dir.path(), "check").args(["--connect"]).output(2 * SOON).await.stdout
    };
    let shipped = include_str!("../../../deploy/redis-users.acl");
    let shipped = shipped.lines().find(|line| line.starts_with("user ssegate ")).unwrap();
    let mute = "mute on nopass ~* resetchannels &* +@all -publish";
    for user in [shipped.trim_start_matches("user "), mute] {
        let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(user.split(' ')).collect();
        redis.command::<String>(&words).await;
    }
    let said = check("ssegate:listens").await;
    assert!(said.contains("clients can resume at another gateway: yes"), "{said}");
    let said = check("mute:x").await;
    assert!(said.contains("clients can resume at another gateway: no, because"), "{said}");
    // A gateway is ready once it follows what the others follow, and says so.
    let gateway = start(&redis).await;
    let verbose = gateway.admin("/readyz?verbose").await.text().await;
    assert!(verbose.contains("clients can resume at another gateway"), "{verbose}");
}
