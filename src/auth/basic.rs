//! The method `basic`: names and passwords (RFC 7617), out of a file as `htpasswd` writes it.

use std::sync::Arc;

use ssegate_auth::{Identity, Refusal, basic_credentials};

use super::access::{Access, Denial};
use super::passwords::{PasswordVerdict, Users};
use super::request::AuthRequest;

/// Verifies the name and the password of a request. `users`: `None` if the file was not read.
///
/// # Errors
/// There are none, or they are wrong; or too many others wait for their own to be verified.
pub(super) async fn authenticate(
    users: Option<&Arc<Users>>,
    request: AuthRequest<'_>,
) -> Result<Access, Denial> {
    let credentials = basic_credentials(request.headers)?;
    let users = users.ok_or(Denial::Refused(Refusal::Password))?;
    let name = credentials.name.clone();
    match users.verify(credentials).await {
        // A browser that has asked its user once sends them by itself, also for the page of another site.
        PasswordVerdict::Right => {
            Ok(Access { identity: Identity::named(&name), is_ambient: true, ..Access::default() })
        }
        PasswordVerdict::Wrong => Err(Refusal::Password.into()),
        PasswordVerdict::Busy => Err(Denial::Busy),
    }
}
