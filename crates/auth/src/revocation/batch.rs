//! Which streams several revocations end, in one pass over them.

use std::collections::HashMap;

use super::{RevocableIds, Revocation, RevocationTarget};

/// Several revocations, indexed by the ids that they revoke: with many streams open, a pass over the streams
/// for each revocation would take too long.
#[derive(Debug, Default)]
pub struct RevocationBatch<'a> {
    subjects: HashMap<&'a str, usize>,
    tokens: HashMap<&'a str, usize>,
    sessions: HashMap<&'a str, usize>,
    channels: HashMap<&'a str, usize>,
    everyone: Option<usize>,
}

impl<'a> FromIterator<&'a Revocation> for RevocationBatch<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Revocation>>(revocations: I) -> Self {
        let mut batch = Self::default();
        for (number, revocation) in revocations.into_iter().enumerate() {
            let (map, text) = match revocation.target() {
                RevocationTarget::Subject { id, .. } => (&mut batch.subjects, id),
                RevocationTarget::Token(id) => (&mut batch.tokens, id),
                RevocationTarget::Session(id) => (&mut batch.sessions, id),
                RevocationTarget::Channel(name) => (&mut batch.channels, name),
                RevocationTarget::All => {
                    batch.everyone.get_or_insert(number);
                    continue;
                }
            };
            map.entry(text).or_insert(number);
        }
        batch
    }
}

impl RevocationBatch<'_> {
    /// Returns the place in the batch of a revocation that ends this open stream; `None` if the stream stays
    /// open. `ids` has one item for each credential of the stream, and `channels` are the channels that it
    /// follows. Unlike [`RevocationList::refuses`], this ignores when a credential was issued: a client with
    /// a newer one comes back.
    ///
    /// [`RevocationList::refuses`]: super::RevocationList::refuses
    pub fn ending<'b>(
        &self,
        ids: &[RevocableIds],
        mut channels: impl Iterator<Item = &'b str>,
    ) -> Option<usize> {
        let of = |map: &HashMap<&str, usize>, id: &Option<Box<str>>| {
            id.as_deref().and_then(|id| map.get(id)).copied()
        };
        let of_one = |ids: &RevocableIds| {
            of(&self.subjects, &ids.subject)
                .or_else(|| of(&self.tokens, &ids.token))
                .or_else(|| of(&self.sessions, &ids.session))
        };
        ids.iter()
            .find_map(of_one)
            .or_else(|| channels.find_map(|name| self.channels.get(name).copied()))
            .or(self.everyone)
    }
}
