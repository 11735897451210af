//! The revocations that a gateway remembers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::cutoffs::{CutoffKey, Cutoffs};
use super::{Revocation, RevocationTarget, SESSION_ID, TOKEN_ID};
use crate::Identity;

/// The most revocations that a list remembers, unless it is made with another number.
pub const MAX_REVOCATIONS: usize = 100_000;

/// Reaches every credential, whenever it was issued.
const EVER: u64 = u64::MAX;

/// Revocations, each until it expires. Whether one refuses a credential is found by its id, not by looking
/// through all of them.
#[derive(Debug)]
pub struct RevocationList {
    max: usize,
    /// All of them, in the order in which they are forgotten.
    remembered: BTreeMap<CutoffKey, RememberedRevocation>,
    nonces: HashSet<Arc<str>>,
    subjects: HashMap<String, Cutoffs>,
    tokens: HashMap<String, Cutoffs>,
    sessions: HashMap<String, Cutoffs>,
    everyone: Cutoffs,
    added: u64,
    evicted: u64,
}

/// What is needed to forget a revocation.
#[derive(Debug)]
struct RememberedRevocation {
    nonce: Arc<str>,
    target: RevocationTarget,
}

impl Default for RevocationList {
    fn default() -> Self {
        Self::new(MAX_REVOCATIONS)
    }
}

impl RevocationList {
    /// Returns a list that remembers at most `max` revocations, and at least one.
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            remembered: BTreeMap::new(),
            nonces: HashSet::new(),
            subjects: HashMap::new(),
            tokens: HashMap::new(),
            sessions: HashMap::new(),
            everyone: Cutoffs::default(),
            added: 0,
            evicted: 0,
        }
    }

    /// Adds a revocation. Returns whether it is new: one with the same nonce is a repetition, and changes
    /// nothing.
    ///
    /// If the list is full, the one that expires first is evicted, which may be the new one: the
    /// credentials that it revokes are the next to expire, too. [`Self::evicted`] counts them.
    pub fn add(&mut self, revocation: Revocation) -> bool {
        let Revocation { target, issued, expires, nonce } = revocation;
        if self.nonces.contains(&*nonce) {
            return false;
        }
        let nonce: Arc<str> = nonce.into();
        self.nonces.insert(Arc::clone(&nonce));
        self.added += 1;
        let key = (expires, self.added);
        match &target {
            RevocationTarget::Subject { id, is_blocked } => {
                let reach = if *is_blocked { EVER } else { seconds(issued) };
                self.subjects.entry(id.clone()).or_default().add(key, reach);
            }
            RevocationTarget::Token(id) => {
                self.tokens.entry(id.clone()).or_default().add(key, EVER)
            }
            RevocationTarget::Session(id) => {
                self.sessions.entry(id.clone()).or_default().add(key, EVER);
            }
            RevocationTarget::All => self.everyone.add(key, seconds(issued)),
            // Ends streams once. No credential is refused for it.
            RevocationTarget::Channel(_) => {}
        }
        self.remembered.insert(key, RememberedRevocation { nonce, target });
        if self.remembered.len() > self.max {
            self.forget_first();
            self.evicted += 1;
        }
        true
    }

    /// Forgets the revocations that have expired.
    pub fn purge(&mut self, now: SystemTime) {
        while self.remembered.first_key_value().is_some_and(|((expires, _), _)| *expires <= now) {
            self.forget_first();
        }
    }

    /// Returns whether a credential that is presented has been revoked:
    ///
    /// - by its `jti` or `sid`, whenever it was issued;
    /// - by its id, or with all others, if it was issued in the second of the revocation or before: tokens
    ///   have no finer time. A token without `iat` counts as issued before;
    /// - by its id with `block`, whenever it was issued.
    ///
    /// A credential that is not a token (a static token, a password, what a backend decides) has no time of
    /// issue. Only its id with `block` refuses it: to revoke it, remove it from the configuration.
    pub fn refuses(&self, identity: &Identity, now: SystemTime) -> bool {
        let issued = match identity.issued {
            Some(issued) => seconds(issued),
            None if identity.claims.is_empty() => EVER,
            None => 0,
        };
        let of = |map: &HashMap<String, Cutoffs>, id: Option<String>| {
            id.and_then(|id| map.get(&id)).and_then(|cutoffs| cutoffs.reach(now))
        };
        let subject = identity.id.as_ref().and_then(|id| self.subjects.get(id));
        let reaches = [
            self.everyone.reach(now),
            subject.and_then(|cutoffs| cutoffs.reach(now)),
            of(&self.tokens, identity.claim(TOKEN_ID)),
            of(&self.sessions, identity.claim(SESSION_ID)),
        ];
        reaches.into_iter().flatten().any(|reach| issued <= reach)
    }

    /// The number of revocations that it remembers.
    pub fn len(&self) -> usize {
        self.remembered.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.remembered.is_empty()
    }

    /// How many revocations were forgotten before they expired, because the list was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn forget_first(&mut self) {
        let Some((key, RememberedRevocation { nonce, target })) = self.remembered.pop_first()
        else {
            return;
        };
        self.nonces.remove(&nonce);
        match target {
            RevocationTarget::Subject { id, .. } => forget(&mut self.subjects, &id, key),
            RevocationTarget::Token(id) => forget(&mut self.tokens, &id, key),
            RevocationTarget::Session(id) => forget(&mut self.sessions, &id, key),
            RevocationTarget::All => self.everyone.remove(key),
            RevocationTarget::Channel(_) => {}
        }
    }
}

fn forget(map: &mut HashMap<String, Cutoffs>, id: &str, key: CutoffKey) {
    if let Some(cutoffs) = map.get_mut(id) {
        cutoffs.remove(key);
        if cutoffs.is_empty() {
            map.remove(id);
        }
    }
}

/// Whole seconds since 1970: the precision with which tokens say when they were issued.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
