//! The measurements: each starts servers, runs the load against them, and notes rows.

mod cell;
mod growth;
mod idle;
mod intake;
mod meter;
mod shards;

use std::io::Write as _;

use self::cell::{Cell, Figures};
use crate::Outcome;
use crate::load::Pace;
use crate::mode::Mode;
use crate::options::{Figure, Options};
use crate::results::Results;
use crate::servers::{Server, Settings, Site};

/// A run: its options, its site, and its results.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) options: Options,
    pub(crate) site: Site,
    pub(crate) results: Results,
}

impl Run {
    /// Measures one figure, in rounds.
    pub(crate) fn measure(&mut self, figure: Figure) -> Outcome {
        for round in 1..=self.options.rounds {
            say(&format!("{figure:?}, round {round} of {}", self.options.rounds));
            match figure {
                Figure::Main => self.main()?,
                Figure::Payloads => self.payloads()?,
                Figure::Subscribers => growth::subscribers(self)?,
                Figure::Channels => growth::channels(self)?,
                Figure::Churn => growth::churn(self)?,
                Figure::Shards => shards::measure(self)?,
                Figure::Idle => idle::measure(self)?,
                Figure::Intake => intake::measure(self)?,
                Figure::All => {}
            }
        }
        Ok(())
    }

    fn main(&mut self) -> Outcome {
        let servers = self.options.servers_or(&[
            Server::Bare,
            Server::Ssegate,
            Server::Stock,
            Server::NchanRedis,
            Server::NchanMemory,
            Server::Pushpin,
        ]);
        for mode in self.options.modes_or(&[Mode::HTTP1, Mode::HTTP2, Mode::HTTP2_SHARED]) {
            // With many streams on a connection only the memory is measured: the load's side of a shared
            // connection costs something else.
            let is_for_memory = mode == Mode::HTTP2_SHARED;
            for &server in &servers {
                let cell = Cell {
                    pace: (!is_for_memory).then_some(Pace::Rate(self.options.rate)),
                    saturates: !is_for_memory,
                    ..self.cell("main", server, mode)
                };
                self.note(&cell)?;
            }
        }
        Ok(())
    }

    fn payloads(&mut self) -> Outcome {
        let servers =
            self.options.servers_or(&[Server::Bare, Server::Ssegate, Server::NchanMemory]);
        for mode in self.options.modes_or(&[Mode::HTTP1]) {
            for payload in [10 << 10, 100 << 10] {
                for &server in &servers {
                    let subscribers = self.options.subscribers.min(1000);
                    let cell = Cell {
                        subscribers,
                        payload,
                        saturates: true,
                        ..self.cell("payloads", server, mode)
                    };
                    self.note(&cell)?;
                }
            }
        }
        Ok(())
    }

    /// A cell in which nothing is measured yet except what every cell has: opening and memory.
    fn cell(&self, figure: &'static str, server: Server, mode: Mode) -> Cell {
        Cell {
            figure,
            variant: String::new(),
            server,
            mode,
            subscribers: self.options.subscribers,
            channels: 1,
            payload: self.options.payload,
            pace: None,
            saturates: false,
            settings: Settings::default(),
        }
    }

    /// Measures a cell and keeps its rows. If a server fails, this is reported, and the cell is tried again;
    /// if it fails again, the run goes on without it.
    fn note(&mut self, cell: &Cell) -> Outcome {
        if !cell.server.speaks(cell.mode) {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let error = match cell.measure(&self.site, &self.options) {
                Ok(figures) => {
                    self.keep_all(cell, figures);
                    return Ok(());
                }
                Err(error) => error,
            };
            crate::machine::check_interrupt()?;
            say(&format!("  {cell}: FAILED: {error}"));
            self.results.add(cell.key("failures"), 1.0);
        }
        Ok(())
    }

    fn keep_all(&mut self, cell: &Cell, figures: Figures) {
        let shown: Vec<String> =
            figures.iter().map(|(metric, value)| format!("{metric} {value:.2}")).collect();
        say(&format!("  {cell}: {}", shown.join(", ")));
        for (metric, value) in figures {
            self.results.add(cell.key(metric), value);
        }
    }
}

/// How often a cell is tried.
const ATTEMPTS: usize = 3;

/// Reports how far the run is; on standard error, so that the tables can go elsewhere.
pub(crate) fn say(text: &str) {
    // Standard error may be closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}
