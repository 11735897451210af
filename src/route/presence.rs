//! The `presence` of an events route: how members are identified, and which webhooks are called for them.

use std::sync::Arc;
use std::time::Duration;

use ssegate_auth::Identity;

use super::template::Template;
use crate::webhook::Webhook;

/// The settings of `presence`: the gateway knows which members have a stream with a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceSettings {
    /// The template of a member's id, from its credential: `{auth.id}`.
    pub identify: String,
    /// Whether streams get an event when a member joins or leaves.
    pub has_events: bool,
    /// How long a member stays after its last stream has ended, so that one that reconnects does not leave.
    pub grace: Duration,
    /// The most members of one channel; further ones are ignored.
    pub max_members: usize,
    /// The webhook that is called when a channel gets its first member; `None`: none.
    pub on_occupied: Option<Arc<Webhook>>,
    /// The webhook that is called when a channel has lost its last member.
    pub on_vacated: Option<Arc<Webhook>>,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            identify: String::new(),
            has_events: false,
            grace: Duration::from_secs(5),
            max_members: 10_000,
            on_occupied: None,
            on_vacated: None,
        }
    }
}

/// The `presence` of a route.
#[derive(Debug)]
pub struct RoutePresence {
    settings: Arc<PresenceSettings>,
    identify: Template,
}

impl RoutePresence {
    /// The longest id of a member, in bytes.
    pub const MAX_ID_BYTES: usize = 256;

    pub(super) fn new(settings: Arc<PresenceSettings>) -> Self {
        let identify = Template::new(&settings.identify);
        Self { settings, identify }
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<PresenceSettings> {
        &self.settings
    }

    /// Returns the id of a member with this credential; `None` if the credential has none, or one longer than
    /// [`Self::MAX_ID_BYTES`].
    pub fn member(&self, identity: Option<&Identity>) -> Option<String> {
        let member = self.identify.of_identity(identity?)?;
        (!member.is_empty() && member.len() <= Self::MAX_ID_BYTES).then_some(member)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ssegate_auth::Identity;

    use super::{PresenceSettings, RoutePresence};

    #[test]
    fn a_listener_is_called_what_its_credential_says() {
        let member = |identify: &str, identity: Option<&Identity>| {
            let identify = identify.to_owned();
            let settings = PresenceSettings { identify, ..PresenceSettings::default() };
            RoutePresence::new(Arc::new(settings)).member(identity)
        };
        let known = Identity::named("4*2");
        assert_eq!(member("{auth.id}", Some(&known)).as_deref(), Some("4*2"));
        assert_eq!(member("user:{auth.id}", Some(&known)).as_deref(), Some("user:4*2"));
        assert_eq!(member("{claim.none}", Some(&known)), None);
        assert_eq!(member("{query.name}", Some(&known)), None);
        assert_eq!(member("{auth.id}", None), None);
        assert_eq!(member("{auth.id}", Some(&Identity::named(""))), None);
        let longest = "x".repeat(RoutePresence::MAX_ID_BYTES);
        assert!(member("{auth.id}", Some(&Identity::named(&longest))).is_some());
        assert_eq!(member("{auth.id}", Some(&Identity::named(&format!("{longest}x")))), None);
    }
}
