//! Resolves `basic`: a file of names and hashes of passwords. No message contains a part of a hash.

use std::sync::Arc;

use ssegate_auth::password::Passwords;
use ssegate_strict_yaml::{At, Field};

use super::resolver::Resolver;
use crate::auth::BasicAuth;
use crate::config::file::BasicFile;

impl Resolver<'_> {
    /// Returns the users of the file and their realm.
    pub(super) fn basic(&self, At { location, value: file }: At<BasicFile>) -> Option<BasicAuth> {
        let what = "set a file of users, which `htpasswd -cB users.htpasswd NAME` writes";
        let users = self.required(file.users, &location, "users", what);
        let realm = match file.realm {
            Field::Absent => Some("ssegate".to_owned()),
            field => field.written().and_then(|at| self.parse(&at, realm)),
        };
        let users = users?;
        let location = users.location.clone();
        let Some(text) = self.key_file(users)? else {
            return Some(BasicAuth { users: None, realm: realm? });
        };
        let text = str::from_utf8(&text).map_err(|_| "is not text in UTF-8".to_owned());
        let users = text.and_then(|text| {
            Passwords::parse(text).map_err(|mistakes| {
                mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            })
        });
        let users = users.map_err(|mistakes| self.note(&location, mistakes)).ok()?;
        Some(BasicAuth { users: Some(Arc::new(users)), realm: realm? })
    }
}

/// What may stand between the quotes of a header field (RFC 9110, section 5.6.4).
fn realm(text: &str) -> Result<String, String> {
    match text.chars().all(|c| (' '..='~').contains(&c) && c != '"' && c != '\\') {
        true => Ok(text.to_owned()),
        false => Err("may have printable ASCII without quotes and backslashes only".to_owned()),
    }
}
