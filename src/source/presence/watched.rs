//! The routes whose channels are watched, also for gateways that have died.

use std::sync::Arc;

use crate::route::{PresenceSettings, Router};

/// Routes that are watched, at most.
const MAX_WATCHED: usize = 64;

/// A route that tells somebody when a channel is vacated.
#[derive(Clone, Debug)]
pub(crate) struct WatchedRoute {
    /// The settings of the route.
    pub(crate) settings: Arc<PresenceSettings>,
    /// The length of the prefix of its channels that clients do not see, in bytes.
    pub(crate) prefix_bytes: usize,
}

/// The routes that tell somebody when a channel is vacated, each webhook once.
#[derive(Debug, Default)]
pub(super) struct WatchedRoutes(Vec<WatchedRoute>);

impl WatchedRoutes {
    /// Those of `router`.
    pub(super) fn of(router: &Router) -> Self {
        let mut watched = Self::default();
        for route in router.routes() {
            if let (Some(presence), Some(channels)) = (&route.presence, &route.channels) {
                watched.add(presence.settings(), channels.prefix_bytes());
            }
        }
        watched
    }

    /// Adds a route, which may have come with a reload.
    pub(super) fn add(&mut self, settings: &Arc<PresenceSettings>, prefix_bytes: usize) {
        let is_known = |route: &WatchedRoute| {
            route.settings.on_vacated == settings.on_vacated && route.prefix_bytes == prefix_bytes
        };
        let is_full = self.0.len() >= MAX_WATCHED;
        if settings.on_vacated.is_some() && !is_full && !self.0.iter().any(is_known) {
            self.0.push(WatchedRoute { settings: Arc::clone(settings), prefix_bytes });
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[WatchedRoute] {
        &self.0
    }
}
