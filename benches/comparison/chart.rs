//! The charts: SVG written by hand, legible on a light and on a dark background.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::report::short;
use crate::results::{Key, Results};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 20.0;
const TOP: f64 = 64.0;

/// Names in the order in which they are shown, each with its colour.
const SERVERS: [(&str, &str, &str); 6] = [
    ("bare", "bare write(2) loop", "#8b949e"),
    ("ssegate", "ssegate", "#2f81f7"),
    ("stock", "hyper's HTTP/2", "#8957e5"),
    ("nchan-redis", "Nchan, Redis store", "#3fa34d"),
    ("nchan-memory", "Nchan, memory store", "#b08800"),
    ("pushpin", "Pushpin", "#cf5c8a"),
];

const MODES: [(&str, &str); 4] = [
    ("h1", "HTTP/1.1"),
    ("h1+tls", "HTTP/1.1, TLS"),
    ("h2+tls", "HTTP/2, TLS"),
    ("h2+tls/100", "HTTP/2, 100 streams a connection"),
];

/// Bars of one metric, or two of one kind, for each mode and server.
struct Bars {
    file: &'static str,
    title: &'static str,
    metrics: &'static [(&'static str, &'static str)],
    scale: f64,
}

const CHARTS: [Bars; 4] = [
    Bars {
        file: "cpu",
        title: "CPU per delivery, in microseconds (less is better)",
        metrics: &[("cpu_us", "")],
        scale: 1.0,
    },
    Bars {
        file: "latency",
        title: "Latency from publish to receipt, in milliseconds (less is better)",
        metrics: &[("latency_p50_ms", "p50"), ("latency_p99_ms", "p99")],
        scale: 1.0,
    },
    Bars {
        file: "memory",
        title: "Memory of a quiet stream, in KiB (less is better)",
        metrics: &[("memory_bytes", "")],
        scale: 1.0 / 1024.0,
    },
    Bars {
        file: "saturated",
        title: "Deliveries a second on one core (more is better)",
        metrics: &[("saturated_per_s", "")],
        scale: 1.0,
    },
];

/// Draws the results beside their file; returns the files of the charts.
pub(crate) fn draw(results: &Results, csv: &Path) -> Outcome<Vec<PathBuf>> {
    let stem = csv.with_extension("");
    let stem = stem.display();
    let mut files = Vec::new();
    let mut keep = |name: &str, svg: String| -> Outcome {
        let file = PathBuf::from(format!("{stem}-{name}.svg"));
        fs::write(&file, svg)?;
        files.push(file);
        Ok(())
    };
    for bars in &CHARTS {
        if let Some(svg) = bars.draw(results) {
            keep(bars.file, svg)?;
        }
    }
    for (file, title, metric) in [
        ("growth-throughput", "Deliveries a second on one core, by subscribers", "saturated_per_s"),
        ("growth-cpu", "CPU per delivery in microseconds, by subscribers", "cpu_us"),
    ] {
        if let Some(svg) = lines(results, title, metric) {
            keep(file, svg)?;
        }
    }
    Ok(files)
}

impl Bars {
    /// `None` where nothing was measured.
    fn draw(&self, results: &Results) -> Option<String> {
        let mut rows = Vec::new();
        for (mode, mode_name) in MODES {
            let before = rows.len();
            for (server, server_name, colour) in SERVERS {
                for (metric, note) in self.metrics {
                    let is_wanted = |key: &Key| {
                        key.figure == "main"
                            && key.server == server
                            && key.mode == mode
                            && key.metric == *metric
                    };
                    // A value below zero is noise.
                    let value = results.find(is_wanted).map(|median| median.value * self.scale);
                    if let Some(value) = value.filter(|&value| value > 0.0) {
                        rows.push((format!("{server_name} {note}"), value, colour, *note == "p50"));
                    }
                }
            }
            if rows.len() > before {
                rows.insert(before, (mode_name.to_owned(), f64::NAN, "", false));
            }
        }
        let most = rows.iter().map(|row| row.1).filter(|v| !v.is_nan()).reduce(f64::max)?;
        let mut svg = Svg::new(self.title, results, TOP + rows.len() as f64 * (BAR + 4.0) + 8.0);
        for (place, (label, value, colour, is_light)) in rows.iter().enumerate() {
            let y = TOP + place as f64 * (BAR + 4.0);
            let middle = y + BAR * 0.7;
            if value.is_nan() {
                svg.text(16.0, middle, "strong", label);
                continue;
            }
            let width = (WIDTH - LEFT - RIGHT) * value / most;
            let opacity = if *is_light { 0.55 } else { 1.0 };
            svg.text_right(LEFT - 8.0, middle, label.trim());
            svg.put(&format!(
                r#"<rect x="{LEFT}" y="{y:.0}" width="{width:.1}" height="{BAR}" rx="2" fill="{colour}" opacity="{opacity}"/>"#
            ));
            svg.text(LEFT + width + 6.0, middle, "", &short(*value));
        }
        Some(svg.finish())
    }
}

/// One line for each server and mode over the number of subscribers, on a logarithmic axis.
fn lines(results: &Results, title: &str, metric: &str) -> Option<String> {
    const HEIGHT: f64 = 400.0;
    let (x0, x1, y0, y1) = (70.0, WIDTH - 210.0, HEIGHT - 50.0, TOP + 6.0);
    let rows: Vec<(&Key, f64)> = results
        .medians()
        .filter(|(key, _)| key.figure == "subscribers" && key.metric == metric)
        .map(|(key, median)| (key, median.value))
        .collect();
    let most = rows.iter().map(|row| row.1).reduce(f64::max)? * 1.05;
    let sizes = || rows.iter().map(|(key, _)| key.subscribers as f64);
    let (least_size, most_size) = (sizes().reduce(f64::min)?.ln(), sizes().reduce(f64::max)?.ln());
    let span = (most_size - least_size).max(f64::MIN_POSITIVE);
    let x = |subscribers: f64| x0 + (x1 - x0) * (subscribers.ln() - least_size) / span;
    let y = |value: f64| y0 - (y0 - y1) * value / most;

    let mut svg = Svg::new(title, results, HEIGHT);
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        svg.put(&format!(r#"<path class="grid" d="M{x0} {0:.1}H{x1}"/>"#, y(value)));
        svg.text_right(x0 - 8.0, y(value) + 4.0, &short(value));
    }
    let mut ticks: Vec<usize> = rows.iter().map(|(key, _)| key.subscribers).collect();
    ticks.sort_unstable();
    ticks.dedup();
    for tick in ticks {
        svg.text_middle(x(tick as f64), y0 + 20.0, &tick.to_string());
    }
    svg.text_middle(f64::midpoint(x0, x1), y0 + 40.0, "subscribers");
    let mut place = 0.0;
    for (server, server_name, colour) in SERVERS {
        for (mode, mode_name) in MODES {
            let mut points: Vec<(f64, f64)> = rows
                .iter()
                .filter(|(key, _)| key.server == server && key.mode == mode)
                .map(|(key, value)| (x(key.subscribers as f64), y(*value)))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            if points.is_empty() {
                continue;
            }
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let dash = if mode == "h1" { "" } else { r#" stroke-dasharray="6 4""# };
            let path = path.join("L");
            svg.put(&format!(
                r#"<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dash}/>"#
            ));
            for (x, y) in points {
                svg.put(&format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
            }
            let at = y1 + 8.0 + place * 34.0;
            svg.put(&format!(
                r#"<path d="M{0} {at:.0}h22" stroke="{colour}" stroke-width="2.5"{dash}/>"#,
                x1 + 18.0
            ));
            svg.text(x1 + 46.0, at + 4.0, "", server_name);
            svg.text(x1 + 46.0, at + 18.0, "small", mode_name);
            place += 1.0;
        }
    }
    Some(svg.finish())
}

/// A drawing with a title, and where its numbers come from.
struct Svg(String);

impl Svg {
    fn new(title: &str, results: &Results, height: f64) -> Self {
        let title_text = escape(title);
        let origin = escape(&results.origin.first().cloned().unwrap_or_default());
        let machine = results
            .origin
            .get(1)
            .map_or("", |machine| machine.split(", load average").next().unwrap_or(machine));
        let machine = escape(machine);
        Self(format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title_text}">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}
.title {{ font-size: 16px; font-weight: 600 }}
.strong {{ font-weight: 600 }}
.small {{ font-size: 11px; fill: #59636e }}
.grid {{ stroke: #8b949e; stroke-opacity: .35 }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }}
.small {{ fill: #9198a1 }}
}}
</style>
<text class="title" x="16" y="26">{title_text}</text>
<text class="small" x="16" y="46">{origin}; {machine}</text>
"##
        ))
    }

    fn put(&mut self, element: &str) {
        writeln!(self.0, "{element}").expect("a string takes any text");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        self.put(&format!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    fn text_right(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.put(&format!(r#"<text text-anchor="end" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    fn text_middle(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.put(&format!(r#"<text text-anchor="middle" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    fn finish(mut self) -> String {
        self.put("</svg>");
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
