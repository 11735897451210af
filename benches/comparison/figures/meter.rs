//! CPU over a while: that of the server, of the load, and of everything else on the machine.

use crate::process::{machine_cpu, own_cpu};
use crate::servers::Running;

/// Seconds of CPU, from the start of the machine or over a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// Of the server's processes, user and system.
    pub(crate) server: f64,
    /// Of this process.
    pub(crate) load: f64,
    /// Of all others: a machine that is not quiet shows here.
    pub(crate) others: f64,
}

impl Cpu {
    /// Up to now.
    pub(crate) fn read(running: &Running) -> Self {
        let (server, load) = (running.cpu(), own_cpu());
        let others = machine_cpu() - server - load - running.support_cpu();
        Self { server, load, others }
    }

    /// Since `self` was read.
    pub(crate) fn since(self, running: &Running) -> Self {
        let now = Self::read(running);
        Self {
            server: now.server - self.server,
            load: now.load - self.load,
            others: (now.others - self.others).max(0.0),
        }
    }
}
