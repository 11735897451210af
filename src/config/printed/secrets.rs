//! Which parts of a configuration are not printed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use ssegate_strict_yaml::PlainValue;

use crate::config::purpose::is_secret;
use crate::config::settings::Settings;

/// Replaces a secret.
const HIDDEN: &str = "(hidden)";

/// The shortest secret that is looked for elsewhere in the file. Shorter ones are words by chance.
const MIN_SHARED: usize = 6;

/// Whether the key has the URL of a Redis.
fn is_redis_url(path: &str) -> bool {
    path == "redis.url" || path.starts_with("redis.named.") || path.starts_with("redis.shards[")
}

/// The configuration as YAML without its secrets: the values of keys that have secrets, passwords in URLs, values in
/// the query of a URL, and headers for a backend that are the same for everybody. Where the same text stands in another
/// value, that is hidden, too.
pub(super) fn hidden(mut value: PlainValue, settings: &Settings) -> String {
    let known: BTreeSet<&str> = settings.secrets.iter().map(|place| &*place.path).collect();
    let mut hider = SecretHider { known, secrets: Vec::new() };
    hider.hide(&mut value, "");
    let secrets = hider.secrets.into_iter().filter(|secret| secret.len() >= MIN_SHARED);
    hide_shared(&mut value, &secrets.collect::<Vec<_>>());
    value.to_yaml()
}

struct SecretHider<'a> {
    /// The paths that resolving has found to have secrets.
    known: BTreeSet<&'a str>,
    /// The texts that were hidden.
    secrets: Vec<String>,
}

impl SecretHider<'_> {
    fn hide(&mut self, value: &mut PlainValue, path: &str) {
        match value {
            PlainValue::Nothing => {}
            PlainValue::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.hide(item, &format!("{path}[{index}]"));
                }
            }
            PlainValue::Map(entries) => {
                for entry in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.hide(&mut entry.value, &format!("{path}{dot}{}", entry.key));
                }
            }
            PlainValue::Scalar { text, is_bare } => {
                if is_header_template(path, text) {
                    (*text, *is_bare) = (self.template(text), false);
                    return;
                }
                let is_key =
                    self.known.contains(path) || is_secret(path) || is_fixed_header(path, text);
                // Of the URL of Redis the host is of use.
                let is_url = text.contains("://") && (!is_key || is_redis_url(path));
                let shown = match (is_url, is_key) {
                    (true, _) => self.url(text),
                    (false, true) => {
                        self.secrets.push(text.clone());
                        HIDDEN.into()
                    }
                    (false, false) => return,
                };
                if shown != *text {
                    (*text, *is_bare) = (shown.into_owned(), false);
                }
            }
        }
    }

    /// A template without the text around its placeholders, which is the same for everybody.
    fn template(&mut self, text: &str) -> String {
        let mut shown = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let fixed = rest.find('{').unwrap_or(rest.len());
            if fixed > 0 {
                self.secrets.push(rest[..fixed].trim().to_owned());
                shown.push_str(HIDDEN);
            }
            let end = rest[fixed..].find('}').map_or(rest.len(), |end| fixed + end + 1);
            shown.push_str(&rest[fixed..end]);
            rest = &rest[end..];
        }
        shown
    }

    /// A URL without the password, and without the values of its query.
    fn url<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let mut shown = String::new();
        if let Some((user, host)) = authority.rsplit_once('@') {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            // Where there is only one, it may be a token.
            let secret = if password.is_empty() { name } else { password };
            self.secrets.push(secret.to_owned());
            let name = if password.is_empty() { String::new() } else { format!("{name}:") };
            shown = format!("{name}{HIDDEN}@{host}");
        } else {
            shown.push_str(authority);
        }
        let (path, query) =
            path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        shown.push_str(path);
        if let Some(query) = query {
            let pairs = query.split('&').map(|pair| match pair.split_once('=') {
                Some((key, value)) if !matches!(key, "db" | "user") && !value.is_empty() => {
                    self.secrets.push(value.to_owned());
                    format!("{key}={HIDDEN}")
                }
                _ => pair.to_owned(),
            });
            shown = format!("{shown}?{}", pairs.collect::<Vec<_>>().join("&"));
        }
        format!("{scheme}://{shown}").into()
    }
}

/// Whether it is a header of `pass` that says the same for everybody, which may be the gateway's own credential.
fn is_fixed_header(path: &str, text: &str) -> bool {
    is_header(path) && !text.contains('{')
}

/// Whether it is a header of `pass` with values of who asks. What else is in it may be a credential as well.
fn is_header_template(path: &str, text: &str) -> bool {
    is_header(path) && text.contains('{')
}

fn is_header(path: &str) -> bool {
    path.contains(".proxy.pass.")
}

/// Hides each value that contains one of the secrets.
fn hide_shared(value: &mut PlainValue, secrets: &[String]) {
    match value {
        PlainValue::Nothing => {}
        PlainValue::List(items) => items.iter_mut().for_each(|item| hide_shared(item, secrets)),
        PlainValue::Map(entries) => {
            entries.iter_mut().for_each(|entry| hide_shared(&mut entry.value, secrets));
        }
        PlainValue::Scalar { text, is_bare } => {
            if secrets.iter().any(|secret| text.contains(secret.as_str())) {
                (*text, *is_bare) = (HIDDEN.to_owned(), false);
            }
        }
    }
}
