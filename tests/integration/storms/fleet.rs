//! Storms over three gateways at one Redis: whichever of them a client comes to, it has each message once, in
//! order, and no gap; and where one gateway's connection breaks, one gap for each break, at that gateway.
//!
//! On a third of the channels all messages are alike. Who was there before the first counts them, and none comes
//! twice under one name.

use std::time::Duration;

use tokio::time::Instant;

use super::gateways::{Fleet, Weather};
use super::sailor::Landed;
use super::sea::{FULL, Force, SHORT};
use super::storm;
use crate::support::{Redis, measured};

async fn storm_over_three(weather: Weather) {
    // Redis cuts off whom more than 32 MiB wait for: a few long payloads, on a busy machine. What is cut off is
    // another storm.
    let redis = Redis::with(&["--client-output-buffer-limit", "pubsub", "0", "0", "0"]).await;
    let mut fleet = Fleet::start(&redis, weather).await;
    let sea = fleet.sea();
    let start = Instant::now();
    let landed = storm(&sea, &redis, fleet.endure(&sea)).await;
    fleet.judge(&sea, &landed).await;
    let messages: usize = (0..weather.force.channels).map(|channel| sea.next(channel)).sum();
    let sum = |what: fn(&Landed) -> usize| landed.iter().map(what).sum::<usize>();
    let (seen, voyages, gaps) = (sum(|c| c.seen), sum(|c| c.voyages), sum(|c| c.gaps));
    measured(&format!(
        "{} clients, {messages} messages, {seen} events, {voyages} voyages, {gaps} gaps, {:?}",
        landed.len(),
        start.elapsed()
    ));
}

/// Seven minutes ahead, five behind, and right.
const CLOCKS: [i32; 3] = [7 * 60, -5 * 60, 0];

/// Long payloads take longer to read: fewer messages, and clients.
const SHORT_MEBIBYTES: Force =
    Force { clients: 16, channels: 6, per_second: 6, lasts: Duration::from_secs(3) };
/// Each message is sent to eight clients on the average, and kept by three gateways: 230 MiB in each.
const FULL_MEBIBYTES: Force = Force { per_second: 6, ..FULL };

fn two_hundred_bytes(force: Force) -> Weather {
    Weather { bytes: 200, ..Weather::fair(force) }
}

fn mebibytes(force: Force) -> Weather {
    Weather { bytes: 1 << 20, ..Weather::fair(force) }
}

fn restarts(force: Force, restarts: usize) -> Weather {
    Weather { restarts, ..Weather::fair(force) }
}

/// Those that start hear of all channels by a pattern, not only of those that the others tell them.
fn restarts_with_follow(force: Force, restarts: usize) -> Weather {
    Weather { follows: true, ..self::restarts(force, restarts) }
}

fn late(force: Force, seconds: u64) -> Weather {
    Weather { late: Duration::from_secs(seconds), ..Weather::fair(force) }
}

fn clocks_apart(force: Force) -> Weather {
    Weather { clocks: CLOCKS, ..Weather::fair(force) }
}

fn all_at_once(force: Force) -> Weather {
    Weather { bytes: 200, restarts: 6, clocks: CLOCKS, ..late(force, 3) }
}

fn breaks(force: Force, breaks: usize) -> Weather {
    Weather { breaks, ..Weather::fair(force) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_send_each_message_once() {
    Box::pin(storm_over_three(two_hundred_bytes(SHORT))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_send_each_long_message_once() {
    Box::pin(storm_over_three(mebibytes(SHORT_MEBIBYTES))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_are_replaced_lose_nothing_of_what_is_published() {
    Box::pin(storm_over_three(restarts(SHORT, 3))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_with_follow_that_are_replaced_lose_nothing_of_what_is_published() {
    Box::pin(storm_over_three(restarts_with_follow(SHORT, 2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_hears_late_among_others_is_no_gap() {
    Box::pin(storm_over_three(late(SHORT, 1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libfaketime of the package faketime: run by tests/run"]
async fn gateways_whose_clocks_are_minutes_apart_send_each_message_once() {
    Box::pin(storm_over_three(clocks_apart(SHORT))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_cut_off_tells_each_client_once_and_the_others_nobody() {
    Box::pin(storm_over_three(breaks(SHORT, 2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_of_200_bytes_over_three_gateways() {
    Box::pin(storm_over_three(two_hundred_bytes(FULL))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_of_mebibytes_over_three_gateways() {
    Box::pin(storm_over_three(mebibytes(FULL_MEBIBYTES))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_that_are_replaced_six_times() {
    Box::pin(storm_over_three(restarts(FULL, 6))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_of_which_one_hears_three_seconds_late() {
    Box::pin(storm_over_three(late(FULL, 3))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_with_clocks_minutes_apart() {
    Box::pin(storm_over_three(clocks_apart(FULL))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_of_which_one_is_cut_off_six_times() {
    Box::pin(storm_over_three(breaks(FULL, 6))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_with_follow_that_are_replaced_six_times() {
    Box::pin(storm_over_three(restarts_with_follow(FULL, 6))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_of_restarts_while_one_hears_late_and_clocks_are_minutes_apart() {
    Box::pin(storm_over_three(all_at_once(FULL))).await;
}
