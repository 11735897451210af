//! The routes with presence, as they are configured now: their settings, and which of them are watched for gateways
//! that have died.

use std::collections::HashMap;
use std::sync::Arc;

use crate::route::{PresenceSettings, Router};

/// A route with presence.
#[derive(Clone, Debug)]
pub(crate) struct WatchedRoute {
    /// The settings of the route.
    pub(crate) settings: Arc<PresenceSettings>,
    /// The length of the prefix of its channels that clients do not see, in bytes.
    pub(crate) prefix_bytes: usize,
}

/// All routes with presence.
#[derive(Debug, Default)]
pub(super) struct WatchedRoutes {
    // By their scopes, which a reload does not change.
    by_scope: HashMap<Arc<str>, WatchedRoute>,
    // The routes with a webhook for vacated channels, each webhook once.
    watched: Vec<WatchedRoute>,
}

impl WatchedRoutes {
    /// Collects the routes with presence of `router`.
    pub(super) fn of(router: &Router) -> Self {
        let presence = router.routes().iter().filter_map(|route| {
            let (presence, channels) = (route.presence.as_ref()?, route.channels.as_ref()?);
            let (settings, prefix_bytes) =
                (Arc::clone(presence.settings()), channels.prefix_bytes());
            Some((Arc::clone(&route.scope), WatchedRoute { settings, prefix_bytes }))
        });
        Self::new(presence)
    }

    /// Collects these routes, each with its scope.
    pub(super) fn new(routes: impl Iterator<Item = (Arc<str>, WatchedRoute)>) -> Self {
        let mut all = Self::default();
        for (scope, route) in routes {
            let is_known = |other: &WatchedRoute| {
                other.settings.on_vacated == route.settings.on_vacated
                    && other.prefix_bytes == route.prefix_bytes
            };
            if route.settings.on_vacated.is_some() && !all.watched.iter().any(is_known) {
                all.watched.push(route.clone());
            }
            all.by_scope.insert(scope, route);
        }
        all
    }

    /// The route with this scope; `None`: there is none any more.
    pub(super) fn get(&self, scope: &str) -> Option<&WatchedRoute> {
        self.by_scope.get(scope)
    }

    /// The routes with a webhook for vacated channels.
    pub(super) fn watched(&self) -> &[WatchedRoute] {
        &self.watched
    }
}
