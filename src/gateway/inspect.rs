//! Checks that a start would make, without starting: for `ssegate check`.

use std::time::SystemTime;

use super::auth_warnings::auth_warnings;
use super::follow_warnings::follow_warnings;
use super::keep_warnings::keep_warnings;
use super::presence_warnings::presence_warnings;
use super::share_warnings::share_warnings;
use super::{Error, sockets};
use crate::config::{Settings, reaches};
use crate::route::{self, ChannelFollower, RouteSettings, Target, UpstreamAddress};
use crate::server::listener::ListenError;
use crate::server::own_address::is_own_address;
use crate::server::{descriptors, tls};

/// Checks the files and addresses in the settings. Opens no socket and creates no file. Returns
/// warnings, one line each: a certificate that expires soon, an address that this machine does not
/// have, a route to the admin listener, an `auth` that lets in more than is meant, a pattern that receives
/// everything, a `keep` or a `share` that serves others than is meant, routes that disagree about who is present.
///
/// # Errors
/// The error that a start would fail with.
pub fn inspect(settings: &Settings) -> Result<Vec<String>, Error> {
    let addresses = sockets::addresses(settings);
    // A start raises the limit first, too.
    descriptors::raise_limit();
    descriptors::check_limit(settings.shards, addresses.len()).map_err(Error::TooFewFiles)?;
    let mut warnings = Vec::new();
    for listener in &settings.listeners {
        let Some(tls) = &listener.tls else { continue };
        warnings.extend(tls::check(tls, SystemTime::now()).map_err(ListenError::Tls)?);
    }
    let foreign = addresses.into_iter().filter(|address| !is_own_address(address.ip()));
    warnings.extend(foreign.map(|address| {
        format!("{address}: no network interface has this address now; listening on it will fail")
    }));
    warnings.extend(published_admin(settings));
    warnings.extend(auth_warnings(settings));
    warnings.extend(follow_warnings(settings));
    warnings.extend(keep_warnings(settings));
    warnings.extend(presence_warnings(settings));
    warnings.extend(share_warnings(settings));
    warnings.extend(disagreeing_routes(settings));
    Ok(warnings)
}

/// The routes that read the same channel in different ways, where something is published over HTTP.
fn disagreeing_routes(settings: &Settings) -> Vec<String> {
    let routes = || settings.routes.iter().map(|route| &**route);
    if !routes().any(|route| matches!(route.target, Target::Publish(_))) {
        return Vec::new();
    }
    let name = |route: &RouteSettings| route.path.clone();
    let pairs = route::disagreements(routes()).into_iter();
    let warning = |(channel, one, other): (String, ChannelFollower<'_>, ChannelFollower<'_>)| {
        let winner = route::follower_of(routes(), one.route.host.as_deref(), &channel);
        let winner = winner.map_or_else(|| name(one.route), |winner| name(winner.route));
        format!(
            "{} and {} can have the same channel, such as {channel:?}, with another source, redis, format, \
             strip_prefix or sharded: a message that is published to it over HTTP is as {winner} reads it",
            name(one.route),
            name(other.route),
        )
    };
    pairs.map(warning).collect()
}

/// The routes of which an upstream is the admin listener.
fn published_admin(settings: &Settings) -> impl Iterator<Item = String> + use<'_> {
    let admin = settings.admin.as_ref().map(|admin| admin.address);
    let is_admin = move |upstream: &UpstreamAddress| match (upstream, admin) {
        (UpstreamAddress::Tcp { host, port, .. }, Some(admin)) => reaches(host, *port, admin),
        _ => false,
    };
    let upstreams = |route: &RouteSettings| match &route.target {
        Target::Proxy(proxy) => proxy.upstreams.to_vec(),
        Target::Events(_) | Target::Publish(_) | Target::Demo => Vec::new(),
    };
    settings.routes.iter().enumerate().filter_map(move |(index, route)| {
        let upstream = upstreams(route).into_iter().find(|upstream| is_admin(upstream))?;
        Some(format!(
            "routes[{index}].proxy.upstream: {upstream} is the admin listener of this gateway: everybody who may \
             reach {} sees its metrics and its state",
            route.path
        ))
    })
}
