//! The lists of busy channels and of slow readers.

use std::time::Duration;

use super::{TestHub, read, run, settle, topic};
use crate::HubSettings;

#[test]
fn the_busiest_channels_are_those_with_the_most_messages_since_the_last_look() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        // More than are looked at together.
        let names: Vec<String> = (0..3000).map(|n| format!("c{n}")).collect();
        let streams: Vec<_> = names.iter().map(|name| test.open(0, &[name])).collect();
        settle().await;
        test.follow().await;
        test.publish_all(&[("c7", "x"), ("c2999", "x"), ("c2999", "x"), ("c1500", "x")]).await;
        test.publish_all(&[("c1500", "x"), ("c1500", "x")]).await;
        let look = async || {
            let busiest = test.hub.busiest(2).await.into_iter();
            let named = busiest.map(|it| (it.topic.subscription.name.to_string(), it.messages));
            named.collect::<Vec<_>>()
        };
        assert_eq!(look().await, [("c1500".into(), 3), ("c2999".into(), 2)]);
        assert_eq!(look().await, [], "nothing has come since");
        test.publish("c7", "x").await;
        assert_eq!(look().await, [("c7".into(), 1)]);
        drop(streams);
    });
}

#[test]
fn the_slowest_readers_are_those_whose_oldest_event_waits_longest() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let shard = &test.shards[0];
        // More than are looked at together.
        let streams: Vec<_> = (0..600).map(|_| test.open(0, &["a", "b"])).collect();
        let late = test.open(0, &["c"]);
        settle().await;
        test.follow().await;
        streams.iter().for_each(|stream| drop(read(stream)));
        drop(read(&late));
        let half = Duration::from_millis(500);
        assert_eq!(shard.slowest(5, half).await, []);
        test.publish("a", "x").await;
        assert_eq!(shard.slowest(5, half).await, [], "an event waits for a moment in every queue");
        tokio::time::advance(half).await;
        test.publish("c", "x").await;
        tokio::time::advance(half).await;
        streams[..599].iter().for_each(|stream| drop(read(stream)));
        let queued_bytes = read(&streams[0]).len();
        assert_eq!(queued_bytes, 0, "it has read everything");
        let slowest = shard.slowest(5, half).await;
        let [first, second] = &*slowest else { panic!("two are slow: {slowest:?}") };
        assert_eq!((first.channels, second.channels), (2, 1));
        assert_eq!((&first.channel, &second.channel), (&Some(topic("a")), &Some(topic("c"))));
        assert!(
            first.behind >= 2 * half && (half..2 * half).contains(&second.behind),
            "{slowest:?}"
        );
        assert!(first.queued_bytes > 0 && first.tag == 0, "{first:?}");
        assert_eq!(shard.slowest(1, half).await, std::slice::from_ref(first));
        assert_eq!(shard.slowest(5, 2 * half).await, std::slice::from_ref(first));
        drop((read(&streams[599]), read(&late)));
        assert_eq!(shard.slowest(5, half).await, [], "nobody is behind");
        assert_eq!((shard.readers(&topic("a")), shard.readers(&topic("x"))), (600, 0));
    });
}
