//! What grows: subscribers, channels, and how many of them come and go.

use super::Run;
use super::cell::{Cell, percentiles, warm_code};
use crate::Outcome;
use crate::load::{Churn, Churned, Load, Pace};
use crate::mode::Mode;
use crate::servers::{Server, Settings};

/// Deliveries a second at each size, so that only the size makes the difference.
const DELIVERIES: f64 = 40_000.0;

pub(super) fn subscribers(run: &mut Run) -> Outcome {
    let servers = run.options.servers_or(&[Server::Bare, Server::Ssegate, Server::NchanMemory]);
    for mode in run.options.modes_or(&[Mode::HTTP1, Mode::HTTP2]) {
        for subscribers in [200, 1000, 2000, 5000, 10_000, 15_000] {
            for &server in &servers {
                let cell = Cell {
                    subscribers,
                    pace: Some(Pace::Rate(DELIVERIES / subscribers as f64)),
                    saturates: true,
                    ..run.cell("subscribers", server, mode)
                };
                run.note(&cell)?;
            }
        }
    }
    Ok(())
}

pub(super) fn channels(run: &mut Run) -> Outcome {
    const SUBSCRIBERS: usize = 10_000;
    /// Events a second for each subscriber.
    const EACH: f64 = 2.0;
    for mode in run.options.modes_or(&[Mode::HTTP1]) {
        for server in run.options.servers_or(&[Server::Ssegate]) {
            // One message to all, the same number of messages at once, and the same number one by one.
            for (channels, pace, name) in [
                (1, Pace::Rate(EACH), "1 channel"),
                (SUBSCRIBERS, Pace::Rounds(EACH), "10000 channels at once"),
                (SUBSCRIBERS, Pace::Rate(EACH * SUBSCRIBERS as f64), "10000 channels in turn"),
            ] {
                let cell = Cell {
                    variant: name.into(),
                    subscribers: SUBSCRIBERS,
                    channels,
                    pace: Some(pace),
                    ..run.cell("channels", server, mode)
                };
                run.note(&cell)?;
            }
        }
    }
    Ok(())
}

/// Streams that come and go on other channels, over HTTP/2, while the latency of one channel is measured.
pub(super) fn churn(run: &mut Run) -> Outcome {
    const CONNECTIONS: usize = 100;
    const PER_SECOND: f64 = 20_000.0;
    for server in run.options.servers_or(&[Server::Ssegate]) {
        let mode = run.options.modes.first().copied().unwrap_or(Mode::HTTP2);
        // Channels are left at once without subscribers, so that the source has all of the work.
        let settings = Settings { linger: "0s", ..Settings::default() };
        let mut cell =
            Cell { subscribers: CONNECTIONS, settings, ..run.cell("churn", server, mode) };
        let running = server.start(&run.site, &cell.settings)?;
        warm_code(&running, &run.site, mode)?;
        let place = running.place(&run.site, mode)?;
        let mut load = Load::new(running.publisher()?, cell.payload)?;
        load.open(&place, CONNECTIONS, 0, 1)?;
        load.warm_up(0.3)?;
        let churn =
            Churn { per_second: PER_SECOND, channels: 1..10_001, connections: 0..CONNECTIONS };
        for is_churned in [false, true] {
            cell.variant = if is_churned { "with churn" } else { "without churn" }.into();
            let mut churned = Churned::default();
            let churn = is_churned.then_some((&place, &churn, &mut churned));
            load.tally.latencies = Some(Vec::new());
            let cpu = running.cpu();
            let pace = Pace::Rate(run.options.rate);
            let window = load
                .run_with(run.options.seconds, pace, churn)
                .map_err(|error| format!("{error}\n{}", running.logs()))?;
            let changes = (churned.opened + churned.closed) as f64;
            let mut figures = percentiles(load.tally.latencies.take().unwrap_or_default());
            figures.push(("changes_per_s", changes / window.seconds));
            figures.push(("cpu_share", (running.cpu() - cpu) / window.seconds));
            run.keep_all(&cell, figures);
        }
    }
    Ok(())
}
