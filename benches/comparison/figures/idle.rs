//! What quiet streams cost: nothing is published, only keep-alives are sent.

use super::Run;
use super::cell::{Cell, warm_code};
use crate::Outcome;
use crate::load::{Load, Pace};
use crate::mode::Mode;
use crate::servers::Server;

/// Enough for two keep-alives of every stream.
const SECONDS: f64 = 30.0;

pub(super) fn measure(run: &mut Run) -> Outcome {
    for mode in run.options.modes_or(&[Mode::HTTP1, Mode::HTTP2]) {
        for server in run.options.servers_or(&[Server::Ssegate]) {
            let cell = Cell { subscribers: 10_000, ..run.cell("idle", server, mode) };
            let running = server.start(&run.site, &cell.settings)?;
            warm_code(&running, &run.site, mode)?;
            let mut load = Load::new(running.publisher()?, cell.payload)?;
            load.open(&running.place(&run.site, mode)?, cell.subscribers, 0, 1)?;
            let cpu = running.cpu();
            let window = load.run(SECONDS, Pace::Silence)?;
            let share = (running.cpu() - cpu) / window.seconds;
            run.keep_all(&cell, vec![("cpu_percent", 100.0 * share)]);
        }
    }
    Ok(())
}
