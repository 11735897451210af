//! One shard and two, on two processors, as fast as possible.
//!
//! On a machine with two processors the load shares them with the gateway in both cases. Then the load is the
//! limit: its share of CPU is shown beside the rate.

use super::Run;
use super::cell::Cell;
use crate::Outcome;
use crate::mode::Mode;
use crate::servers::{Server, Settings};

pub(super) fn measure(run: &mut Run) -> Outcome {
    let usual = run.site.cores.clone();
    run.site.cores = usual.with_two_for_servers();
    run.site.cores.take_ours()?;
    let result = each(run);
    run.site.cores = usual;
    run.site.cores.take_ours()?;
    result
}

fn each(run: &mut Run) -> Outcome {
    for mode in run.options.modes_or(&[Mode::HTTP1, Mode::HTTP2]) {
        for shards in [1, 2] {
            let cell = Cell {
                variant: format!("{shards} shards"),
                subscribers: 1000,
                saturates: true,
                settings: Settings { shards, ..Settings::default() },
                ..run.cell("shards", Server::Ssegate, mode)
            };
            run.note(&cell)?;
        }
    }
    Ok(())
}
