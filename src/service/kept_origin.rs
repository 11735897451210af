//! Whether a request for a kept stream comes from the page of an origin that its route does not
//! list.

use http::header::ORIGIN;

use super::cors;
use super::kept::owner::Owner;
use crate::auth::{AuthRequest, origin};
use crate::route::Route;

/// Whether the page of another origin, which the route does not list, makes a request.
pub(super) fn is_foreign(
    (request, is_tls): (&AuthRequest<'_>, bool),
    route: &Route,
    owner: Option<&Owner>,
) -> bool {
    let (cors, headers) = (&route.settings.cors, request.headers);
    let is_foreign = origin::is_foreign(*request, is_tls) || origin::is_foreign_site(*request);
    let page = headers.get(ORIGIN);
    // If every page is allowed, none may use credentials that the browser sends by itself.
    let is_ambient = owner.is_some_and(|owner| owner.is_ambient);
    let is_listed = cors::lists(cors, page) || (cors::permits(cors, page) && !is_ambient);
    is_foreign && !is_listed
}
