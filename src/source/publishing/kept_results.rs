//! The results of requests with an `Idempotency-Key`, where there is no Redis to keep them.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::publication::{IdempotencyKey, NotPublished, PublicationOutcome, Receipt};

/// Results kept at the same time. A further request is refused; no older result is dropped, since its
/// client was promised that a retry publishes nothing.
const MAX_KEPT: usize = 10_000;

/// The results of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct KeptResults {
    by_name: HashMap<String, (String, Vec<Receipt>)>,
    // The oldest first.
    ends: VecDeque<(Instant, String)>,
}

impl KeptResults {
    /// Returns the result of an earlier request with this key, if there was one.
    ///
    /// # Errors
    /// The earlier request published something else, or no further result can be kept.
    pub(super) fn find(
        &mut self,
        key: &IdempotencyKey,
        now: Instant,
    ) -> Result<Option<PublicationOutcome>, NotPublished> {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, name)) = self.ends.pop_front() {
                self.by_name.remove(&name);
            }
        }
        match self.by_name.get(&key.name) {
            Some((fingerprint, _)) if *fingerprint != key.fingerprint => {
                Err(NotPublished::KeyReused)
            }
            Some((_, receipts)) => {
                Ok(Some(PublicationOutcome { receipts: receipts.clone(), is_repeated: true }))
            }
            None if self.by_name.len() >= MAX_KEPT => Err(NotPublished::Busy),
            None => Ok(None),
        }
    }

    /// Keeps the result of the first request with this key.
    pub(super) fn keep(&mut self, key: IdempotencyKey, receipts: &[Receipt], now: Instant) {
        self.ends.push_back((now + IdempotencyKey::KEPT_FOR, key.name.clone()));
        self.by_name.insert(key.name, (key.fingerprint, receipts.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{KeptResults, MAX_KEPT};
    use crate::source::publishing::{IdempotencyKey, NotPublished, Receipt};

    fn key(name: &str, fingerprint: &str) -> IdempotencyKey {
        IdempotencyKey { name: name.to_owned(), fingerprint: fingerprint.to_owned() }
    }

    #[test]
    fn a_result_is_kept_for_ten_minutes_and_for_the_same_message() {
        let (mut kept, now) = (KeptResults::default(), Instant::now());
        assert_eq!(kept.find(&key("a", "1"), now), Ok(None));
        kept.keep(key("a", "1"), &[Receipt::Receivers(3)], now);
        let found = kept.find(&key("a", "1"), now).expect("the same").expect("kept");
        assert_eq!((found.receipts, found.is_repeated), (vec![Receipt::Receivers(3)], true));
        assert_eq!(kept.find(&key("a", "2"), now), Err(NotPublished::KeyReused));
        assert_eq!(kept.find(&key("b", "2"), now), Ok(None));
        let later = now + IdempotencyKey::KEPT_FOR - Duration::from_secs(1);
        assert!(kept.find(&key("a", "1"), later).expect("the same").is_some());
        assert_eq!(kept.find(&key("a", "2"), now + IdempotencyKey::KEPT_FOR), Ok(None));
    }

    #[test]
    fn a_kept_result_is_not_forgotten_for_lack_of_room() {
        let (mut kept, now) = (KeptResults::default(), Instant::now());
        for number in 0..MAX_KEPT {
            kept.keep(key(&number.to_string(), "1"), &[], now);
        }
        assert_eq!(kept.find(&key("new", "1"), now), Err(NotPublished::Busy));
        assert!(kept.find(&key("0", "1"), now).expect("the same").is_some());
        assert_eq!(kept.find(&key("new", "1"), now + IdempotencyKey::KEPT_FOR), Ok(None));
    }
}
