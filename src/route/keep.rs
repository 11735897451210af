//! The `keep` of a proxy route: which event streams of its backend survive their readers, and for whom.

use std::time::Duration;

use http::{HeaderName, Method};

use crate::grip::signature::Secret;

/// Event streams of a backend that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepSettings {
    /// The methods of requests whose response is kept without the backend asking for it.
    pub methods: Vec<Method>,
    /// Where the name of a stream is found; the first that is there counts.
    pub key: Vec<KeySource>,
    /// The credentials that say whose a stream is.
    pub owner: Vec<OwnerCredential>,
    /// Whether a stream without any of these credentials is kept, for everybody who knows its address.
    pub is_public: bool,
    /// Where streams are kept.
    pub store: KeepStore,
    /// What happens to a stream that nobody reads.
    pub when_nobody: WhenNobody,
    /// What happens to the running streams of the same name when another one begins.
    pub same_key: SameKey,
    /// Where a client finds the running stream of a name; `None`: nowhere but at its address.
    pub resume_at: Option<ResumeTemplate>,
    /// How long a stream that has ended is kept.
    pub after_end: Duration,
    /// How much is kept.
    pub limits: KeepLimits,
    /// How a client is told that it cannot have all events.
    pub on_lost: OnLost,
}

/// Where streams are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeepStore {
    /// In this process.
    #[default]
    Memory,
    /// Here and in Redis, so that other gateways can serve them. All gateways have the same secret, with which the
    /// owner of a stream is hashed.
    Redis(Secret),
}

/// How much is kept on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// The longest time that a stream runs.
    pub age: Duration,
    /// The most bytes of one stream; the oldest events go first.
    pub bytes: usize,
    /// The most events of one stream; the oldest go first.
    pub events: usize,
    /// The most streams of one owner, running and ended.
    pub per_owner: usize,
    /// The memory of all streams of the route, in bytes.
    pub total: usize,
}

/// Where the name of a stream is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A header field of the request.
    Header(HeaderName),
    /// A value in the request's body, which is JSON: a pointer (RFC 6901).
    Body(String),
    /// A header field of the response.
    Response(HeaderName),
}

/// A credential that says whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerCredential {
    /// A header field of the request.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A claim of the token with which the route's `auth` let the request in.
    Claim(String),
}

impl OwnerCredential {
    /// Whether a browser sends it by itself, also for the page of another site.
    pub fn is_ambient(&self) -> bool {
        match self {
            Self::Header(name) => {
                *name == http::header::AUTHORIZATION || *name == http::header::COOKIE
            }
            Self::Cookie(_) => true,
            Self::Claim(_) => true,
        }
    }
}

/// What happens to a stream that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNobody {
    /// It goes on.
    Continue,
    /// It is cancelled when nobody has read it for so long.
    CancelAfter(Duration),
}

/// What happens to the running streams of the same name, owner and method when another one begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameKey {
    /// They go on.
    #[default]
    Parallel,
    /// They are cancelled.
    Replace,
    /// The new request is refused.
    Reject,
}

/// How a client is told that it cannot have all events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// Its connection is cut, or its request refused with 410.
    #[default]
    Cut,
    /// An error as OpenAI's API sends it.
    OpenAi,
    /// An error as Anthropic's API sends it.
    Anthropic,
    /// An error as a UI message stream of the AI SDK has it.
    AiSdk,
    /// An event `gap`, as on an events route.
    Gap,
}

impl Default for KeepSettings {
    fn default() -> Self {
        Self {
            methods: vec![Method::POST, Method::GET],
            key: Vec::new(),
            owner: Vec::new(),
            is_public: false,
            store: KeepStore::default(),
            when_nobody: WhenNobody::CancelAfter(Duration::from_secs(30)),
            same_key: SameKey::default(),
            resume_at: None,
            after_end: Duration::from_secs(300),
            limits: KeepLimits {
                age: Duration::from_secs(1800),
                bytes: 4 << 20,
                events: 50_000,
                per_owner: 20,
                total: 256 << 20,
            },
            on_lost: OnLost::default(),
        }
    }
}

/// Where a client finds the running stream of a name: `{path}/{key}/stream`, in which `{path}` is the path of the
/// request that began it, and `{key}` its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeTemplate {
    has_path: bool,
    before: String,
    after: String,
}

/// What the path of a request for the running stream of a name contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePlace<'a> {
    /// The path of the request that began it; `None`: any.
    pub path: Option<&'a str>,
    /// Its name, percent-encoded.
    pub key: &'a str,
}

impl ResumeTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// It has no `{key}` that is a whole segment, or `{path}` stands elsewhere than at the beginning.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write {key} as one segment, behind {path} or a path: {path}/{key}/stream";
        let (has_path, rest) = match text.strip_prefix("{path}") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (before, after) = rest.split_once("{key}").ok_or(FORM)?;
        let is_plain = |text: &str| !text.contains(['{', '}', '?', '#', '%']);
        let is_segment = before.starts_with('/')
            && before.ends_with('/')
            && (after.is_empty() || after.starts_with('/'));
        if !is_segment || !is_plain(before) || !is_plain(after) {
            return Err(FORM.to_owned());
        }
        Ok(Self { has_path, before: before.to_owned(), after: after.to_owned() })
    }

    /// Parses a path; `None` if it does not match the template.
    pub fn find<'a>(&self, path: &'a str) -> Option<ResumePlace<'a>> {
        let rest = path.strip_suffix(self.after.as_str())?;
        let (_, key) = rest.rsplit_once('/').filter(|(_, key)| !key.is_empty())?;
        let path = rest[..rest.len() - key.len()].strip_suffix(self.before.as_str())?;
        if path.is_empty() == self.has_path {
            return None;
        }
        Some(ResumePlace { path: self.has_path.then_some(path), key })
    }
}

#[cfg(test)]
mod tests {
    use super::ResumeTemplate;

    #[test]
    fn a_template_finds_path_and_key() {
        for (template, path, expected) in [
            ("{path}/{key}/stream", "/api/chat/7/stream", Some((Some("/api/chat"), "7"))),
            ("{path}/{key}/stream", "/api/chat/a%2Fb/stream", Some((Some("/api/chat"), "a%2Fb"))),
            ("{path}/{key}/stream", "/7/stream", None),
            ("{path}/{key}/stream", "/api/chat//stream", None),
            ("{path}/{key}/stream", "/api/chat/7", None),
            ("{path}/{key}", "/api/chat/7", Some((Some("/api/chat"), "7"))),
            ("/streams/{key}", "/streams/7", Some((None, "7"))),
            ("/streams/{key}", "/streams/7/8", None),
            ("/streams/{key}", "/api/streams/7", None),
        ] {
            let template = ResumeTemplate::parse(template).expect("a template");
            let found = template.find(path).map(|place| (place.path, place.key));
            assert_eq!(found, expected, "{template:?} {path}");
        }
        for wrong in [
            "",
            "{path}",
            "{key}",
            "{path}{key}",
            "/a{key}",
            "/{key}b",
            "/{key}/{key}",
            "/{path}/{key}",
        ] {
            assert!(ResumeTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
