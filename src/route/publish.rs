//! The channels that a publish route may publish to.

use ssegate_auth::Identity;

use super::allowed_channels;
use super::channel_error::ChannelError;
use super::parameters::Parameters;
use super::settings::PublishSettings;
use super::template::Template;
use crate::query;

/// Why a channel may not be published to, for the operator's log.
const NOT_LISTED: &str = "the token has no claim that lists the channel";

/// The most channels of one request.
const MAX_CHANNELS: usize = 100;

/// A publish route.
#[derive(Debug)]
pub struct PublishRoute {
    templates: Vec<Template>,
    settings: PublishSettings,
}

/// The channels that one request may publish to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishChannels {
    /// These, which the request itself names. A message may name only one of them: the signature, or the auth
    /// backend, has approved no others.
    Named(Vec<String>),
    /// What a claim lists, by name or by pattern. Each message names its channel.
    Listed(Vec<String>),
    /// Any. A message that names none goes to this one.
    Any(String),
}

impl PublishRoute {
    pub(super) fn new(settings: PublishSettings) -> Self {
        let templates = settings.channels.iter().map(|text| Template::new(text)).collect();
        Self { templates, settings }
    }

    /// Its settings.
    pub fn settings(&self) -> &PublishSettings {
        &self.settings
    }

    /// Returns the channels that a request may publish to. `identity` is the client's.
    ///
    /// # Errors
    /// The request names no channel, or one that its credential does not allow; see [`ChannelError`].
    pub fn channels(
        &self,
        path: &Parameters,
        query: &str,
        identity: Option<&Identity>,
    ) -> Result<PublishChannels, ChannelError> {
        let listed = match &self.settings.claim {
            Some(claim) => {
                let listed = identity.and_then(|identity| identity.list(claim));
                Some(listed.ok_or(ChannelError::NotAllowed(NOT_LISTED))?)
            }
            None => None,
        };
        if let (Some(listed), true) = (&listed, self.templates.is_empty()) {
            return Ok(PublishChannels::Listed(listed.clone()));
        }
        let query = query::parse_strictly(query);
        let mut names = Vec::new();
        for template in &self.templates {
            for name in template.fill(path, &query, identity, MAX_CHANNELS + 1)? {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(ChannelError::Missing);
        }
        if names.len() > MAX_CHANNELS {
            return Err(ChannelError::TooMany(MAX_CHANNELS));
        }
        let is_allowed = |name: &String| {
            listed.as_ref().is_none_or(|listed| allowed_channels::allows(listed, name, false))
        };
        match names.iter().all(is_allowed) {
            true => Ok(PublishChannels::Named(names)),
            false => Err(ChannelError::NotAllowed(NOT_LISTED)),
        }
    }
}

impl PublishChannels {
    /// The channels of a message that names none.
    ///
    /// # Errors
    /// Each message has to name its channel.
    pub fn default(&self) -> Result<&[String], ChannelError> {
        match self {
            Self::Named(names) => Ok(names),
            Self::Any(name) => Ok(std::slice::from_ref(name)),
            Self::Listed(_) => Err(ChannelError::Missing),
        }
    }

    /// Checks the channel that a message names.
    ///
    /// # Errors
    /// It is not one of these.
    pub fn check(&self, name: &str) -> Result<(), ChannelError> {
        let is_allowed = match self {
            Self::Named(names) => names.iter().any(|named| named == name),
            Self::Listed(listed) => allowed_channels::allows(listed, name, false),
            Self::Any(_) => true,
        };
        if is_allowed { Ok(()) } else { Err(ChannelError::NotAllowed(NOT_LISTED)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ssegate_auth::Identity;

    use super::{NOT_LISTED, PublishChannels, PublishRoute};
    use crate::route::channel_error::ChannelError;
    use crate::route::parameters::Parameters;
    use crate::route::settings::PublishSettings;

    fn route(channels: &[&str], claim: Option<&str>) -> PublishRoute {
        PublishRoute::new(PublishSettings {
            channels: channels.iter().map(|&text| text.to_owned()).collect(),
            claim: claim.map(str::to_owned),
            ..PublishSettings::default()
        })
    }

    fn identity() -> Identity {
        let claims = json!({"sub": "42", "publish": ["news", "orders:*"]});
        let claims = claims.as_object().expect("an object").clone();
        Identity { claims, ..Identity::named("42") }
    }

    #[test]
    fn a_request_publishes_to_what_it_names_and_its_claim_lists() {
        let named = |names: &[&str]| {
            Ok(PublishChannels::Named(names.iter().map(|&name| name.to_owned()).collect()))
        };
        let path = Parameters::from_pairs([("channel", "orders:7")]);
        for (channels, claim, query, expected) in [
            (&["{channel}"][..], None, "", named(&["orders:7"])),
            (&["{channel}"], Some("publish"), "", named(&["orders:7"])),
            (&["{channel}:x"], Some("none"), "", Err(ChannelError::NotAllowed(NOT_LISTED))),
            (&["user:{auth.id}"], None, "", named(&["user:42"])),
            (&["user:{auth.id}"], Some("publish"), "", Err(ChannelError::NotAllowed(NOT_LISTED))),
            (&["{query.channel}"], None, "channel=a&channel=b&channel=a", named(&["a", "b"])),
            (&["{query.channel}"], None, "", Err(ChannelError::Missing)),
            (&["{query.channel}"], None, "channel=", Err(ChannelError::Missing)),
            (
                &["{query.channel}"],
                Some("publish"),
                "channel=news&channel=a",
                Err(ChannelError::NotAllowed(NOT_LISTED)),
            ),
            (&["{channel}", "news"], Some("publish"), "", named(&["orders:7", "news"])),
        ] {
            let found = route(channels, claim).channels(&path, query, Some(&identity()));
            assert_eq!(found, expected, "{channels:?} {claim:?} {query}");
        }
        let many: Vec<_> = (0..101).map(|number| format!("channel={number}")).collect();
        let found = route(&["{query.channel}"], None).channels(&path, &many.join("&"), None);
        assert_eq!(found, Err(ChannelError::TooMany(100)));
    }

    #[test]
    fn a_message_names_only_what_its_request_may() {
        let path = Parameters::default();
        let listed = route(&[], Some("publish")).channels(&path, "", Some(&identity()));
        let listed = listed.expect("a list");
        assert_eq!(listed.default(), Err(ChannelError::Missing));
        let named = PublishChannels::Named(vec!["a".to_owned()]);
        for (channels, name, expected) in [
            (&listed, "news", Ok(())),
            (&listed, "orders:9", Ok(())),
            (&listed, "secret", Err(ChannelError::NotAllowed(NOT_LISTED))),
            (&named, "a", Ok(())),
            (&named, "b", Err(ChannelError::NotAllowed(NOT_LISTED))),
            (&PublishChannels::Any("a".to_owned()), "b", Ok(())),
        ] {
            assert_eq!(channels.check(name), expected, "{channels:?} {name}");
        }
    }
}
