//! Where channels are asked for, with nodes that are never connected to.

use std::time::Duration;

use bytes::Bytes;
use redis::{ConnectionAddr, RedisConnectionInfo};
use ssegate_hub::{ChannelName, OrderId};
use ssegate_resp::Value;
use tokio::time::Instant;

use super::{MAX_REDIRECTS, ShardLinks, ShardPlace, VIEW_WAIT};
use crate::source::redis::cluster::{ClusterView, slot_of};
use crate::source::redis::location::{ClusterAddress, RedisLocation};
use crate::source::redis::server::RedisServer;

fn at(port: u16) -> ConnectionAddr {
    ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
}

/// At a Cluster whose slots are all owned by this node.
fn links(owner: u16) -> ShardLinks {
    let address = ClusterAddress::new(vec![at(1)]).expect("a node");
    let server = RedisServer::new(RedisLocation::cluster(address, RedisConnectionInfo::default()));
    let links = ShardLinks::new(server, 1 << 20, "connected again");
    links.cluster().expect("a Cluster").learn_owners(&[(0..=16_383, at(owner))]);
    links
}

fn name(text: &str) -> ChannelName {
    ChannelName::sharded(text).expect("a name")
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Subscribes to what is due. The last node has confirmed everything, and has not replied to `ROLE` yet.
fn subscribe(links: &mut ShardLinks, names: &[ChannelName]) -> usize {
    let long_after = later() + Duration::from_secs(60);
    links.subscribe_due(long_after, |_: &ShardPlace| (OrderId::PLAIN, None));
    let asked = links.channels.asked_at(&names[0]).expect("it is asked for");
    let at = links.nodes.iter().position(|node| node.place == asked).expect("a connection");
    // In the order of the command; none counts yet.
    let mut left = names.to_vec();
    while !left.is_empty() {
        let is_next =
            |name: &ChannelName| links.nodes[at].confirm(name).is_ok_and(|it| it.is_none());
        let next = left.iter().position(is_next).expect("it is asked for");
        left.swap_remove(next);
    }
    at
}

/// The names that count after this reply to `ROLE`.
fn proven(links: &mut ShardLinks, at: usize, reply: &Value) -> Vec<ChannelName> {
    let mut names = links.proven(at, reply, later()).expect("it was asked");
    names.sort();
    names
}

fn slave_of(port: u16) -> Value {
    let text = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
    Value::Array(vec![text("slave"), text("10.0.0.1"), Value::Integer(port.into())])
}

fn master() -> Value {
    Value::Array(vec![Value::Bulk(Bytes::from_static(b"master"))])
}

#[tokio::test]
async fn a_replica_is_left_for_its_master_before_anything_counts_that_it_sends() {
    let mut links = links(1);
    let names = ["{a}1", "{a}2"].map(name);
    names.iter().for_each(|name| links.channels.follow(name.clone()));
    // Both are known; the slots are at 1, which has become a replica of 2.
    links.cluster().expect("a Cluster").learn_owners(&[(0..=9, at(2)), (10..=16_383, at(1))]);
    let old = subscribe(&mut links, &names);
    assert_eq!(links.nodes[old].place, Some(at(1)));
    assert!(proven(&mut links, old, &slave_of(2)).is_empty());
    assert!(!links.channels.is_at(&names[0], &Some(at(1))));
    let new = subscribe(&mut links, &names);
    assert_eq!(links.nodes[new].place, Some(at(2)), "it is asked next");
    assert_eq!(proven(&mut links, new, &master()), names);
    assert!(links.proven(new, &master(), later()).is_err(), "nobody has asked again");
}

#[tokio::test]
async fn a_replica_is_listened_to_if_no_owner_can_be_found() {
    let mut links = links(1);
    let names = [name("a")];
    links.channels.follow(names[0].clone());
    for _ in 0..MAX_REDIRECTS {
        let node = subscribe(&mut links, &names);
        // Nobody knows its master.
        assert!(proven(&mut links, node, &slave_of(9)).is_empty());
        links.nodes.clear();
    }
    let node = subscribe(&mut links, &names);
    assert_eq!(proven(&mut links, node, &slave_of(9)), names);
}

#[tokio::test]
async fn what_a_node_unsubscribes_before_it_has_said_what_it_is_does_not_count() {
    let mut links = links(1);
    let names = ["{a}1", "{a}2"].map(name);
    names.iter().for_each(|name| links.channels.follow(name.clone()));
    let node = subscribe(&mut links, &names);
    assert!(!links.take_unsubscribed(node, &names[0], later()), "by itself");
    assert_eq!(proven(&mut links, node, &master()), names[1..]);
    let again = subscribe(&mut links, &names[..1]);
    assert_eq!(proven(&mut links, again, &master()), names[..1]);
}

#[tokio::test]
async fn a_channel_at_a_node_that_never_learns_of_the_move_is_found_by_the_next_look() {
    let mut links = links(2);
    let (names, wrong) = ([name("a")], Some(at(1)));
    links.channels.follow(names[0].clone());
    assert!(links.compare(later()), "the first look");
    // It was requested from 1 before that. Node 1 accepts it after the look, and does not report a move from then on.
    links.channels.take_due(later());
    links.channels.ask(&names, &wrong);
    assert_eq!(links.channels.confirm(&names[0], &wrong), Some(None));
    assert!(!links.compare(later()), "nothing is new");
    links.subscribe_due(later(), |_: &ShardPlace| (OrderId::PLAIN, None));
    assert!(links.nodes.is_empty());
    // The nodes report the same slot map again.
    links.cluster().expect("a Cluster").learn_owners(&[(0..=16_383, at(2))]);
    assert!(links.compare(later()));
    let node = subscribe(&mut links, &names);
    assert_eq!(links.nodes[node].place, Some(at(2)));
    assert_eq!(proven(&mut links, node, &master()), names);
    assert_eq!(links.channels.confirm(&names[0], &Some(at(2))), Some(Some(wrong)));
}

/// At a Cluster that has not replied yet, with a channel to subscribe to.
fn links_without_view() -> ShardLinks {
    let mut links = links_without_channel();
    links.channels.follow(name("a"));
    links
}

fn links_without_channel() -> ShardLinks {
    let address = ClusterAddress::new(vec![at(1)]).expect("a node");
    let server = RedisServer::new(RedisLocation::cluster(address, RedisConnectionInfo::default()));
    ShardLinks::new(server, 1 << 20, "connected again")
}

/// Where the channels are subscribed to.
fn subscribed_at(links: &mut ShardLinks, now: Instant) -> Vec<ShardPlace> {
    links.subscribe_due(now, |_: &ShardPlace| (OrderId::PLAIN, None));
    links.nodes.iter().map(|node| node.place.clone()).collect()
}

#[tokio::test]
async fn nothing_is_subscribed_to_until_the_owner_can_be_known() {
    let (mut links, now) = (links_without_view(), Instant::now());
    assert!(subscribed_at(&mut links, now).is_empty());
    let cluster = links.cluster().expect("a Cluster").clone();
    cluster.moved(slot_of(b"a"), &at(2));
    cluster.learn(ClusterView { is_ok: true, slots: None });
    assert_eq!(subscribed_at(&mut links, now), [Some(at(2))]);
}

#[tokio::test]
async fn where_no_node_says_what_it_knows_any_is_tried() {
    let (mut links, now) = (links_without_view(), Instant::now());
    assert!(subscribed_at(&mut links, now).is_empty());
    assert_eq!(subscribed_at(&mut links, now + VIEW_WAIT), [Some(at(1))]);
}

#[tokio::test]
async fn the_owner_is_waited_for_from_the_first_channel_on() {
    let (mut links, start) = (links_without_channel(), Instant::now());
    assert!(subscribed_at(&mut links, start).is_empty());
    links.channels.follow(name("a"));
    let long_after = later();
    assert!(subscribed_at(&mut links, long_after).is_empty(), "nothing has waited yet");
    assert_eq!(subscribed_at(&mut links, long_after + VIEW_WAIT), [Some(at(1))]);
}
