//! The tables: medians of every figure, and the ratios that the goals are about.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::results::{Key, Median, Results};

/// A figure of a server: server and mode.
type Of = (&'static str, &'static str);

/// What the gateway's figure is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// Another server's figure, the better one if there are several: the gateway's is at most, or at least,
    /// this many times that.
    AtMost(f64, &'static [Of]),
    AtLeast(f64, &'static [Of]),
    /// At most this much.
    Bound(f64),
}

/// One goal.
struct Goal {
    what: &'static str,
    metric: &'static str,
    mode: &'static str,
    against: Against,
}

/// How much of one processor other programs may take.
const QUIET: f64 = 0.05;

const BARE: &[Of] = &[("bare", "h1")];

const fn goal(
    what: &'static str,
    metric: &'static str,
    mode: &'static str,
    against: Against,
) -> Goal {
    Goal { what, metric, mode, against }
}

/// What the gateway aims at, with the defaults: 2,000 subscribers, one channel, 100 bytes.
const GOALS: &[Goal] = &[
    goal("CPU per delivery", "cpu_us", "h1", Against::AtMost(1.05, BARE)),
    goal("CPU per delivery", "cpu_us", "h1", Against::AtMost(0.80, &[("nchan-redis", "h1")])),
    goal("CPU per delivery", "cpu_us", "h2+tls", Against::AtMost(1.20, BARE)),
    goal(
        "CPU per delivery",
        "cpu_us",
        "h2+tls",
        Against::AtMost(0.75, &[("nchan-redis", "h2+tls")]),
    ),
    goal(
        "deliveries/s, saturated",
        "saturated_per_s",
        "h1",
        Against::AtLeast(8.0, &[("nchan-redis", "h1"), ("nchan-memory", "h1")]),
    ),
    goal(
        "deliveries/s, saturated",
        "saturated_per_s",
        "h2+tls",
        Against::AtLeast(8.0, &[("nchan-redis", "h2+tls"), ("nchan-memory", "h2+tls")]),
    ),
    goal(
        "deliveries/s, saturated",
        "saturated_per_s",
        "h1",
        Against::AtLeast(5.0, &[("pushpin", "h1")]),
    ),
    goal("latency, p99", "latency_p99_ms", "h1", Against::AtMost(0.6, &[("nchan-redis", "h1")])),
    goal(
        "latency, p99",
        "latency_p99_ms",
        "h2+tls",
        Against::AtMost(0.6, &[("nchan-redis", "h2+tls")]),
    ),
    goal("memory of a quiet stream", "memory_bytes", "h1", Against::Bound(1.5 * 1024.0)),
    goal("memory of a quiet stream", "memory_bytes", "h2+tls", Against::Bound(8.0 * 1024.0)),
    goal("memory of a quiet stream", "memory_bytes", "h2+tls/100", Against::Bound(1.5 * 1024.0)),
    goal(
        "CPU to open a connection",
        "open_cpu_us",
        "h2+tls",
        Against::AtMost(1.0, &[("nchan-redis", "h2+tls")]),
    ),
];

/// All tables, as Markdown.
pub(crate) fn text(results: &Results) -> String {
    let mut out = String::new();
    for line in &results.origin {
        put(&mut out, line);
    }
    for (heading, table) in tables(results) {
        put(&mut out, &format!("\n### {heading}\n"));
        table.write(&mut out);
    }
    goals(results, &mut out);
    noise(results, &mut out);
    out
}

/// Rows of one figure: a line for each metric, a column for each server.
#[derive(Default)]
struct Table {
    servers: Vec<String>,
    lines: BTreeMap<(String, usize), Vec<Option<Median>>>,
}

impl Table {
    fn add(&mut self, key: &Key, median: Median) {
        let place = self.servers.iter().position(|server| *server == key.server);
        let place = place.unwrap_or_else(|| {
            self.servers.push(key.server.clone());
            self.servers.len() - 1
        });
        let line = self.lines.entry((key.metric.clone(), key.subscribers)).or_default();
        line.resize(line.len().max(place + 1), None);
        line[place] = Some(median);
    }

    fn write(&self, out: &mut String) {
        put(out, &format!("| subscribers | | {} |", self.servers.join(" | ")));
        put(out, &format!("|---|---|{}", "---|".repeat(self.servers.len())));
        for ((metric, subscribers), medians) in &self.lines {
            let mut line = format!("| {subscribers} | {metric} |");
            for place in 0..self.servers.len() {
                let median = medians.get(place).copied().flatten();
                let cell = median.map_or_else(String::new, |Median { value, least, most }| {
                    format!("{} ({}-{})", short(value), short(least), short(most))
                });
                line.push_str(&format!(" {cell} |"));
            }
            put(out, &line);
        }
    }
}

fn tables(results: &Results) -> BTreeMap<String, Table> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for (key, median) in results.medians() {
        let Key { figure, variant, mode, payload, .. } = key;
        let variant = if variant.is_empty() { String::new() } else { format!(", {variant}") };
        let heading = format!("{figure}: {mode}, {payload} bytes{variant}");
        tables.entry(heading).or_default().add(key, median);
    }
    tables
}

fn goals(results: &Results, out: &mut String) {
    let lines: Vec<String> = GOALS.iter().filter_map(|goal| goal.line(results)).collect();
    if !lines.is_empty() {
        put(
            out,
            "\n### goals\n\n| | mode | measured | beside | ratio | must be | |\n|---|---|---|---|---|---|---|",
        );
        for line in lines {
            put(out, &line);
        }
    }
}

/// Warns when other programs were busy on the machine, so that nobody relies on the numbers.
fn noise(results: &Results, out: &mut String) {
    let shares = results.medians().filter(|(key, _)| key.metric.ends_with("others_share"));
    let most = shares.map(|(_, median)| median.most).fold(0.0, f64::max);
    if most > QUIET {
        let percent = 100.0 * most;
        put(
            out,
            &format!(
                "\n**This machine was not quiet**: others took up to {percent:.0} % of a processor."
            ),
        );
    }
}

impl Goal {
    /// The line of the table; `None` if something for it was not measured.
    fn line(&self, results: &Results) -> Option<String> {
        let of = |server: &str, mode: &str| {
            let found = results.find(|key| {
                key.figure == "main"
                    && key.server == server
                    && key.mode == mode
                    && key.metric == self.metric
            });
            found.map(|median| median.value)
        };
        let ours = of("ssegate", self.mode)?;
        let Self { what, mode, .. } = self;
        let others = |others: &'static [Of], best: fn(f64, f64) -> f64| {
            others.iter().filter_map(|(server, mode)| of(server, mode)).reduce(best)
        };
        let (beside, ratio, must, holds) = match self.against {
            Against::Bound(most) => {
                (String::new(), String::new(), format!("<= {}", short(most)), ours <= most)
            }
            Against::AtMost(most, servers) => {
                let theirs = others(servers, f64::min)?;
                let ratio = ours / theirs;
                let beside = format!("{} {}", short(theirs), names(servers));
                (beside, format!("{ratio:.2}"), format!("<= {most}"), ratio <= most)
            }
            Against::AtLeast(least, servers) => {
                let theirs = others(servers, f64::max)?;
                let ratio = ours / theirs;
                let beside = format!("{} {}", short(theirs), names(servers));
                (beside, format!("{ratio:.2}"), format!(">= {least}"), ratio >= least)
            }
        };
        let verdict = if holds { "holds" } else { "MISSED" };
        let measured = short(ours);
        Some(format!("| {what} | {mode} | {measured} | {beside} | {ratio} | {must} | {verdict} |"))
    }
}

fn names(servers: &[Of]) -> String {
    let names: Vec<String> =
        servers.iter().map(|(server, mode)| format!("{server} {mode}")).collect();
    names.join(" or ")
}

/// As many digits as are significant.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn put(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("a string takes any text");
}
