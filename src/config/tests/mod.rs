//! The whole module, from a text to settings or mistakes.

mod auth;
mod documentation;
mod fleet;
mod keep;
mod listeners;
mod mistakes;
mod presence;
mod printed;
mod publish;
mod reference;
mod revocation;
mod routes;
mod secrets;
mod servers;
mod share;
mod sources;

use super::parse;
use super::settings::Settings;
use crate::route::{EventsSettings, Target};

fn settings(text: &str) -> Settings {
    parse(text, "gateway.yaml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mistakes(text: &str) -> String {
    parse(text, "gateway.yaml", &|_| None).expect_err("there are mistakes").to_string()
}

/// A file that is valid if `routes` is.
fn with_routes(routes: &str) -> String {
    format!("redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n{routes}")
}

/// A valid file with `more` at its end.
fn with(more: &str) -> String {
    with_routes(&format!("- path: /\n  events: {{channels: [news]}}\n{more}"))
}

fn events(settings: &Settings, index: usize) -> &EventsSettings {
    match &settings.routes[index].target {
        Target::Events(events) => events,
        other => panic!("{other:?}"),
    }
}
