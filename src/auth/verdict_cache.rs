//! The verdicts of auth backends, kept for a short time and shared by all shards.
//!
//! The key is a keyed hash of the whole question, so that no verdict serves another user:
//! [`keyed_hash`](ssegate_auth::keyed_hash) says why nobody finds two questions with the same key. The text of a
//! question of up to 2 KiB is kept with its verdict, so that all streams that recheck it share one copy. Equal
//! questions at the same time are sent once. Only permissions are kept: a user who was just refused may have logged
//! in since.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use ssegate_auth::keyed_hash::{HashSecret, KeyedHash};
use tokio::sync::watch;
use tokio::time::Instant;

use super::question_text::{QuestionText, WrittenQuestion};
use super::verdict::Verdict;

/// The most verdicts that are kept. Beyond that, a new question is sent each time.
const MAX_VERDICTS: usize = 10_000;

/// The longest question that is kept with its verdict, in bytes: 20 MB for all of them at most.
const MAX_KEPT_TEXT: usize = 2048;

/// The verdicts of auth backends. A cheap handle.
#[derive(Clone)]
pub struct VerdictCache(Arc<CacheShared>);

struct CacheShared {
    // Random for each process, so that nobody can search for a credential with the same hash.
    secret: HashSecret,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    // Their keys are hashes already.
    verdicts: FxHashMap<CacheKey, KnownVerdict>,
    asking: FxHashMap<CacheKey, watch::Receiver<Option<Verdict>>>,
    // Incremented when the cache is emptied: a verdict on a question from before is not kept.
    generation: u64,
    purged: Option<Instant>,
}

struct KnownVerdict {
    verdict: Verdict,
    until: Instant,
    // `None`: it is too long.
    text: Option<QuestionText>,
}

/// Names a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(KeyedHash);

/// The result of looking up a question.
#[derive(Debug)]
pub enum Lookup {
    /// Its verdict.
    Known(Verdict),
    /// The question has been sent, and the verdict will come here.
    Asking(watch::Receiver<Option<Verdict>>),
    /// Unknown: the caller has to send the question.
    Ask(Question),
}

/// A question that is being asked. If it is dropped without a verdict, the receivers are notified that none comes.
#[derive(Debug)]
pub struct Question {
    cache: VerdictCache,
    key: CacheKey,
    generation: u64,
    is_answered: bool,
    verdict: watch::Sender<Option<Verdict>>,
}

impl Default for VerdictCache {
    fn default() -> Self {
        Self(Arc::new(CacheShared { secret: HashSecret::random(), state: Mutex::default() }))
    }
}

impl VerdictCache {
    /// The key of a question.
    pub fn key(&self, question: &WrittenQuestion<'_>) -> CacheKey {
        self.key_of(question.as_bytes())
    }

    fn key_of(&self, text: &[u8]) -> CacheKey {
        CacheKey(self.0.secret.hash(text))
    }

    /// Returns the verdict of a question, if it is known, and the text of the question, if that was kept.
    pub fn known(&self, key: CacheKey, now: Instant) -> Option<(Verdict, Option<QuestionText>)> {
        let state = self.lock();
        let known = state.known(key, now)?;
        Some((known.verdict.clone(), known.text.clone()))
    }

    /// Returns the verdict of a question, or how to get it.
    pub fn look_up(&self, key: CacheKey, now: Instant) -> Lookup {
        let mut state = self.lock();
        match state.known(key, now) {
            Some(known) => Lookup::Known(known.verdict.clone()),
            None => self.question(key, &mut state),
        }
    }

    /// Returns how to get the verdict of a question, ignoring a known one.
    pub fn ask(&self, key: CacheKey) -> Lookup {
        self.question(key, &mut self.lock())
    }

    fn question(&self, key: CacheKey, state: &mut CacheState) -> Lookup {
        if let Some(asking) = state.asking.get(&key) {
            return Lookup::Asking(asking.clone());
        }
        let (verdict, receiver) = watch::channel(None);
        state.asking.insert(key, receiver);
        let generation = state.generation;
        let is_answered = false;
        Lookup::Ask(Question { cache: self.clone(), key, generation, is_answered, verdict })
    }

    /// Forgets all verdicts, also those of questions that are being asked.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.verdicts.clear();
        // A question from now on is sent again.
        state.asking.clear();
        state.generation += 1;
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    /// A receiver of the verdict.
    pub fn verdict(&self) -> watch::Receiver<Option<Verdict>> {
        self.verdict.subscribe()
    }

    /// Sends the verdict on the question `text` to all who wait for it, and keeps a permission for `keep`.
    pub fn answer(mut self, verdict: Verdict, text: &QuestionText, keep: Duration, now: Instant) {
        self.is_answered = true;
        let mut state = self.cache.lock();
        if state.generation == self.generation {
            // Before the verdict is sent: whoever has received it and asks again must not find this question in
            // flight.
            state.asking.remove(&self.key);
            match &verdict {
                Verdict::Allowed(_) if !keep.is_zero() => {
                    let text = (text.length() <= MAX_KEPT_TEXT).then(|| text.clone());
                    let known = KnownVerdict { verdict: verdict.clone(), until: now + keep, text };
                    state.keep(self.key, known, now);
                }
                // A permission that was known no longer holds.
                Verdict::Refused(_) => drop(state.verdicts.remove(&self.key)),
                Verdict::Allowed(_) | Verdict::NotNow(_) => {}
            }
        }
        drop(state);
        self.verdict.send_replace(Some(verdict));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        if !self.is_answered && state.generation == self.generation {
            state.asking.remove(&self.key);
        }
    }
}

impl CacheState {
    fn known(&self, key: CacheKey, now: Instant) -> Option<&KnownVerdict> {
        self.verdicts.get(&key).filter(|known| now < known.until)
    }

    fn keep(&mut self, key: CacheKey, verdict: KnownVerdict, now: Instant) {
        const PURGE_EVERY: Duration = Duration::from_secs(1);
        let is_due = self.purged.is_none_or(|purged| now >= purged + PURGE_EVERY);
        if self.verdicts.len() >= MAX_VERDICTS / 2 && is_due {
            self.purged = Some(now);
            self.verdicts.retain(|_, known| now < known.until);
        }
        if self.verdicts.len() < MAX_VERDICTS || self.verdicts.contains_key(&key) {
            self.verdicts.insert(key, verdict);
        }
    }
}

impl fmt::Debug for VerdictCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerdictCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{CacheKey, Lookup, MAX_KEPT_TEXT, MAX_VERDICTS, Question, VerdictCache};
    use crate::auth::question_text::QuestionText;
    use crate::auth::verdict::{AuthResponse, Verdict};

    const KEEP: Duration = Duration::from_secs(10);

    fn allowed() -> Verdict {
        Verdict::Allowed(Arc::default())
    }

    fn text() -> QuestionText {
        QuestionText::of(b"may they?")
    }

    fn ask(cache: &VerdictCache, key: CacheKey, now: Instant) -> Question {
        match cache.look_up(key, now) {
            Lookup::Ask(question) => question,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn equal_questions_are_asked_once_and_a_permission_is_kept_for_a_while() {
        let (cache, now) = (VerdictCache::default(), Instant::now());
        let key = cache.key_of(b"a");
        let question = ask(&cache, key, now);
        let Lookup::Asking(waiting) = cache.look_up(key, now) else { panic!("it is asked") };
        question.answer(allowed(), &text(), KEEP, now);
        assert_eq!(*waiting.borrow(), Some(allowed()));
        assert!(matches!(cache.look_up(key, now + KEEP / 2), Lookup::Known(_)));
        assert_eq!(cache.known(key, now + KEEP / 2), Some((allowed(), Some(text()))));
        assert_eq!(cache.known(key, now + KEEP), None);
        let again = ask(&cache, key, now + KEEP);
        drop(again);
        drop(ask(&cache, key, now + KEEP));
    }

    #[test]
    fn a_long_question_is_not_kept() {
        let (cache, now) = (VerdictCache::default(), Instant::now());
        for (length, is_kept) in [(MAX_KEPT_TEXT, true), (MAX_KEPT_TEXT + 1, false)] {
            let key = cache.key_of(&length.to_be_bytes());
            let text = QuestionText::of(&vec![b'a'; length]);
            ask(&cache, key, now).answer(allowed(), &text, KEEP, now);
            let kept = is_kept.then_some(text);
            assert_eq!(cache.known(key, now), Some((allowed(), kept)), "{length}");
        }
    }

    #[test]
    fn a_refusal_is_told_and_not_kept() {
        let (cache, now) = (VerdictCache::default(), Instant::now());
        let key = cache.key_of(b"a");
        let refused = Verdict::Refused(Arc::new(AuthResponse {
            status: http::StatusCode::FORBIDDEN,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        }));
        for verdict in [refused, Verdict::NotNow("away")] {
            let question = ask(&cache, key, now);
            let told = question.verdict();
            question.answer(verdict.clone(), &text(), KEEP, now);
            assert_eq!(*told.borrow(), Some(verdict));
        }
        drop(ask(&cache, key, now));
    }

    #[test]
    fn what_was_asked_before_the_cache_was_emptied_is_not_kept() {
        let (cache, now) = (VerdictCache::default(), Instant::now());
        let key = cache.key_of(b"a");
        let old = ask(&cache, key, now);
        cache.clear();
        let new = ask(&cache, key, now);
        old.answer(allowed(), &text(), KEEP, now);
        assert!(matches!(cache.look_up(key, now), Lookup::Asking(_)), "the new one is asked still");
        drop(new);
        drop(ask(&cache, key, now));
    }

    #[test]
    fn a_key_is_that_of_one_text_in_one_process() {
        let (cache, other) = (VerdictCache::default(), VerdictCache::default());
        assert_eq!(cache.key_of(b"a"), cache.key_of(b"a"));
        assert_ne!(cache.key_of(b"a"), cache.key_of(b"b"));
        assert_ne!(cache.key_of(b"a"), other.key_of(b"a"), "each process has its own key");
    }

    #[test]
    fn the_cache_is_bounded() {
        let (cache, now) = (VerdictCache::default(), Instant::now());
        for number in 0..MAX_VERDICTS + 10 {
            let key = cache.key_of(&number.to_be_bytes());
            ask(&cache, key, now).answer(allowed(), &text(), KEEP, now);
        }
        assert_eq!(cache.lock().verdicts.len(), MAX_VERDICTS);
        let key = cache.key_of(b"later");
        ask(&cache, key, now + KEEP).answer(allowed(), &text(), KEEP, now + KEEP);
        assert_eq!(cache.lock().verdicts.len(), 1, "those that are over make room");
    }
}
