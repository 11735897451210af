//! The settings that have to be the same at all gateways of a Redis, as each publishes them to the others. Where they
//! differ, clients and publishers find nothing, and no other error shows it. Pure.
//!
//! Of a secret only the HMAC of a fixed text is published, which does not reveal the secret.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::hex::hex;
use crate::route::{KeepSettings, KeepStore, Router, ServerPlace};

/// The prefix that separates these messages from others that gateways publish for all.
const BEGIN: &[u8] = b"{\"alike\":";
/// The text that a secret signs.
const FIXED: &[u8] = b"ssegate: whose kept streams are";
/// The number of bytes of the signature that are published.
const SIGNATURE_BYTES: usize = 8;

/// The settings of a gateway at one server that have to be the same at all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct AlikeSettings {
    /// Which of `redis.shards` the server is, and of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard: Option<(usize, usize)>,
    /// For each route that keeps streams for all gateways, by its host and path: the settings that decide who owns a
    /// stream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    keep: BTreeMap<String, String>,
}

/// The settings as a message.
#[derive(Debug, Deserialize, Serialize)]
struct AlikeText {
    alike: AlikeSettings,
    /// The run of the gateway that publishes it.
    #[serde(default)]
    run: String,
}

/// A setting of gateway.yaml that has to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlikeSetting {
    /// `redis.shards`.
    Shards,
    /// `keep.secret` and `keep.owner` of a route.
    Keep,
}

impl AlikeSetting {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Keep, Self::Shards];

    /// The label value of this setting.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Shards => "redis.shards",
            Self::Keep => "keep",
        }
    }
}

/// A difference between two gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AlikeDifference {
    /// Which setting it is.
    pub(crate) of: AlikeSetting,
    /// The setting, with its route where it has one.
    pub(crate) setting: String,
    /// The consequence, and what to do.
    pub(crate) detail: String,
}

/// The settings of this gateway at one server, as a reload leaves them. A cheap handle.
#[derive(Clone)]
pub(crate) struct AlikeSource {
    place: ServerPlace,
    routes: watch::Receiver<Arc<Router>>,
    // The settings, and the routes that they were computed from.
    seen: RefCell<Option<(Arc<Router>, AlikeSettings)>>,
}

impl AlikeSource {
    pub(crate) fn new(place: ServerPlace, routes: watch::Receiver<Arc<Router>>) -> Self {
        Self { place, routes, seen: RefCell::default() }
    }

    /// The current settings.
    pub(crate) fn current(&self) -> AlikeSettings {
        let router = Arc::clone(&self.routes.borrow());
        if let Some((routes, settings)) = &*self.seen.borrow()
            && Arc::ptr_eq(routes, &router)
        {
            return settings.clone();
        }
        let settings = self.with(&router);
        *self.seen.borrow_mut() = Some((router, settings.clone()));
        settings
    }

    fn with(&self, router: &Router) -> AlikeSettings {
        let servers = &self.place.servers;
        let shard = servers.divides_names().then(|| (self.place.index, servers.count()));
        // Kept streams are at the first server.
        let routes = router.routes().iter().filter(|_| self.place.index == 0);
        let keep = routes.filter_map(|route| {
            let signature = keep_signature(route.settings.keep.as_deref()?)?;
            let host = route.settings.host.as_deref().unwrap_or_default();
            Some((format!("{host}{}", route.settings.path), signature))
        });
        AlikeSettings { shard, keep: keep.collect() }
    }
}

/// The published settings of a route that keeps streams for all gateways.
fn keep_signature(keep: &KeepSettings) -> Option<String> {
    let KeepStore::Redis(secret) = &keep.store else { return None };
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()));
    context.update(FIXED);
    context.update(format!("{:?}", keep.owner).as_bytes());
    Some(hex(&context.sign().as_ref()[..SIGNATURE_BYTES]))
}

impl AlikeSettings {
    /// The message of the gateway with this run; `None`: there is nothing to publish.
    pub(crate) fn message(&self, run: &str) -> Option<Vec<u8>> {
        if *self == Self::default() {
            return None;
        }
        serde_json::to_vec(&AlikeText { alike: self.clone(), run: run.to_owned() }).ok()
    }

    /// Parses a message into the run of its publisher and the settings; `None`: it is another kind of message.
    pub(crate) fn parse(message: &[u8]) -> Option<(String, Self)> {
        let text = message.starts_with(BEGIN).then(|| serde_json::from_slice::<AlikeText>(message));
        let AlikeText { alike, run } = text?.ok()?;
        Some((run, alike))
    }

    /// The settings in which another gateway at the same server differs. A setting that only one of them has is not a
    /// difference.
    pub(crate) fn differences(&self, other: &Self) -> Vec<AlikeDifference> {
        let mut all = Vec::new();
        if let (Some(own), Some(others)) = (self.shard, other.shard)
            && own != others
        {
            let shard =
                |(index, count): (usize, usize)| format!("redis.shards[{index}] of {count}");
            all.push(AlikeDifference {
                of: AlikeSetting::Shards,
                setting: "redis.shards".to_owned(),
                detail: format!(
                    "this server is {} here and {} at another gateway, so that each is deaf for channels of the other: \
                     give all gateways and publishers the same list in the same order, and restart",
                    shard(own),
                    shard(others)
                ),
            });
        }
        for (route, own) in &self.keep {
            if other.keep.get(route).is_some_and(|others| others != own) {
                all.push(AlikeDifference {
                    of: AlikeSetting::Keep,
                    setting: format!("keep of {route}"),
                    detail: "another gateway has another keep.secret or keep.owner there, so that neither finds the kept \
                             streams of the other: give all gateways the same"
                        .to_owned(),
                });
            }
        }
        all
    }
}

impl fmt::Debug for AlikeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlikeSource").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{AlikeSettings, keep_signature};
    use crate::grip::signature::Secret;
    use crate::route::{KeepSettings, KeepStore, OwnerCredential};

    fn settings(shard: Option<(usize, usize)>, keep: &[(&str, &str)]) -> AlikeSettings {
        let keep =
            keep.iter().map(|(route, signature)| ((*route).to_owned(), (*signature).to_owned()));
        AlikeSettings { shard, keep: keep.collect() }
    }

    #[test]
    fn only_what_both_have_can_differ() {
        let own = settings(Some((1, 3)), &[("/a", "1"), ("/b", "2")]);
        let names = |other: &AlikeSettings| {
            let found = own.differences(other).into_iter();
            found.map(|it| it.setting).collect::<Vec<_>>()
        };
        assert_eq!(names(&own), [""; 0]);
        assert_eq!(names(&AlikeSettings::default()), [""; 0]);
        assert_eq!(names(&settings(Some((0, 3)), &[("/a", "1")])), ["redis.shards"]);
        assert_eq!(names(&settings(Some((1, 2)), &[])), ["redis.shards"]);
        let other = settings(None, &[("/a", "1"), ("/b", "3"), ("/c", "4")]);
        assert_eq!(names(&other), ["keep of /b"]);
    }

    #[test]
    fn what_is_told_is_read() {
        let own = settings(Some((1, 3)), &[("/a", "1")]);
        let message = own.message("abc").expect("something to tell");
        assert_eq!(message, br#"{"alike":{"shard":[1,3],"keep":{"/a":"1"}},"run":"abc"}"#);
        assert_eq!(AlikeSettings::parse(&message), Some(("abc".to_owned(), own)));
        let later = br#"{"alike":{"more":1},"other":2}"#;
        assert_eq!(AlikeSettings::parse(later), Some((String::new(), AlikeSettings::default())));
        for other in [&br#"{"mark":"00000000000000ff"}"#[..], br#"{"alike":1}"#, b""] {
            assert_eq!(AlikeSettings::parse(other), None);
        }
        assert_eq!(AlikeSettings::default().message("abc"), None);
    }

    #[test]
    fn a_secret_is_told_from_another_and_not_told() {
        let keep = |secret: &str, owner: &[&str]| {
            let owner = owner.iter().map(|name| OwnerCredential::Cookie((*name).to_owned()));
            let secret = Secret::new(secret.repeat(4).into_bytes()).expect("long enough");
            let store = KeepStore::Redis(secret);
            KeepSettings { store, owner: owner.collect(), ..KeepSettings::default() }
        };
        let signature = |secret: &str, owner: &[&str]| keep_signature(&keep(secret, owner));
        let own = signature("abcdefgh", &["a"]).expect("something");
        assert_eq!(Some(&own), signature("abcdefgh", &["a"]).as_ref());
        assert_ne!(Some(&own), signature("abcdefgi", &["a"]).as_ref());
        assert_ne!(Some(&own), signature("abcdefgh", &["b"]).as_ref());
        assert!(own.len() == 16 && !own.contains("abc"), "{own}");
        assert_eq!(keep_signature(&KeepSettings::default()), None);
    }
}
