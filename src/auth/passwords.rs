//! Verifies passwords without holding up a shard.
//!
//! A hash takes tens of milliseconds on purpose. So one thread of the lowest priority computes the hashes, for a
//! bounded number of requests. A password that was right is remembered, so that the next request costs nothing. A
//! wrong one is not.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Tag};
use ssegate_auth::BasicCredentials;
use ssegate_auth::password::Passwords;
use tokio::sync::oneshot;

/// The most requests that wait for their passwords to be verified. Several requests with the same right password
/// verify it once.
const MAX_WAITING: usize = 64;
/// The lowest priority of Linux (setpriority(2)): guessing passwords gets only the time that streams do not need.
const NICENESS: i32 = 19;

/// The result of verifying a name and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordVerdict {
    /// It is the password of the name.
    Right,
    /// It is not the password of the name, or there is no such name.
    Wrong,
    /// Unknown: too many requests wait already.
    Busy,
}

/// The users of all files, and the thread that verifies. A cheap handle, shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PasswordVerifier(Arc<Mutex<VerifierState>>);

#[derive(Debug, Default)]
struct VerifierState {
    known: Vec<(Arc<Passwords>, Weak<Users>)>,
    /// The queue of the thread, which ends with the last user of it. `None` before the first file.
    queue: Option<SyncSender<PasswordCheck>>,
}

/// The users of one file, as long as a route uses it.
#[derive(Debug)]
pub struct Users {
    passwords: Arc<Passwords>,
    /// For each user whose password was right, an HMAC of the name and the password: a plain hash could be guessed
    /// fast from a core dump. At most one for each user in the file.
    right: Mutex<HashMap<String, Tag>>,
    key: hmac::Key,
    queue: Option<SyncSender<PasswordCheck>>,
}

/// One password to verify.
struct PasswordCheck {
    users: Arc<Users>,
    credentials: BasicCredentials,
    verdict: oneshot::Sender<PasswordVerdict>,
}

impl PasswordVerifier {
    /// The users of a file. Routes with equal files share them, and what was verified, also across a reload.
    pub fn users_of(&self, passwords: &Arc<Passwords>) -> Arc<Users> {
        let mut state = self.lock();
        state.known.retain(|(_, users)| users.strong_count() > 0);
        let known = state.known.iter().find(|(known, _)| known == passwords);
        if let Some(users) = known.and_then(|(_, users)| users.upgrade()) {
            return users;
        }
        if state.queue.is_none() {
            state.queue =
                start().map_err(|error| tracing::error!(%error, "no thread for passwords")).ok();
        }
        let users = Arc::new(Users {
            passwords: Arc::clone(passwords),
            right: Mutex::default(),
            key: random_key(),
            queue: state.queue.clone(),
        });
        state.known.push((Arc::clone(passwords), Arc::downgrade(&users)));
        users
    }

    fn lock(&self) -> MutexGuard<'_, VerifierState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// Verifies a name and a password.
    pub async fn verify(self: &Arc<Self>, credentials: BasicCredentials) -> PasswordVerdict {
        if self.is_known(&credentials) {
            return PasswordVerdict::Right;
        }
        let (verdict, decided) = oneshot::channel();
        let check = PasswordCheck { users: Arc::clone(self), credentials, verdict };
        match &self.queue {
            Some(queue) if queue.try_send(check).is_ok() => {
                decided.await.unwrap_or(PasswordVerdict::Busy)
            }
            _ => PasswordVerdict::Busy,
        }
    }

    fn is_known(&self, credentials: &BasicCredentials) -> bool {
        let tag = self.right().get(&credentials.name).copied();
        tag.is_some_and(|tag| hmac::verify(&self.key, &message(credentials), tag.as_ref()).is_ok())
    }

    /// Verifies with the hash, and remembers a password that is right.
    fn verify_slowly(&self, credentials: &BasicCredentials) -> PasswordVerdict {
        // Another request of the same user may have waited before this one.
        if self.is_known(credentials) {
            return PasswordVerdict::Right;
        }
        if !self.passwords.verify(&credentials.name, &credentials.password) {
            return PasswordVerdict::Wrong;
        }
        let tag = hmac::sign(&self.key, &message(credentials));
        self.right().insert(credentials.name.clone(), tag);
        PasswordVerdict::Right
    }

    fn right(&self) -> MutexGuard<'_, HashMap<String, Tag>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name and password; a name has no colon.
fn message(BasicCredentials { name, password }: &BasicCredentials) -> Vec<u8> {
    format!("{name}:{password}").into_bytes()
}

fn random_key() -> hmac::Key {
    let random = aws_lc_rs::rand::SystemRandom::new();
    hmac::Key::generate(HMAC_SHA256, &random).expect("the system has random numbers")
}

/// Starts the thread. It ends when the last handle to its queue is gone.
fn start() -> std::io::Result<SyncSender<PasswordCheck>> {
    let (queue, checks) = sync_channel(MAX_WAITING);
    // Detached: see above.
    drop(thread::Builder::new().name("passwords".into()).spawn(move || verify_all(checks))?);
    Ok(queue)
}

fn verify_all(checks: Receiver<PasswordCheck>) {
    // On Linux this changes only this thread. If it fails, the thread competes with the shards as an equal.
    rustix::process::setpriority_process(None, NICENESS).ok();
    for PasswordCheck { users, credentials, verdict } in checks {
        if verdict.is_closed() {
            continue;
        }
        let verify = || users.verify_slowly(&credentials);
        let decided = catch_unwind(AssertUnwindSafe(verify)).unwrap_or_else(|_panicked| {
            tracing::error!("verifying a password panicked");
            PasswordVerdict::Busy
        });
        // Before the verdict is sent: its receiver may drop the last route with these users.
        drop(users);
        // The client may have left.
        verdict.send(decided).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ssegate_auth::BasicCredentials;
    use ssegate_auth::password::Passwords;
    use tokio::task::JoinSet;

    use super::{MAX_WAITING, PasswordVerdict, PasswordVerifier};

    // htpasswd -nbB -C 5 alice 'correct horse'
    const FAST: &str = "alice:$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve\n";

    fn file(text: &str) -> Arc<Passwords> {
        Arc::new(Passwords::parse(text).expect("a file"))
    }

    fn credentials(name: &str, password: &str) -> BasicCredentials {
        BasicCredentials { name: name.to_owned(), password: password.to_owned() }
    }

    #[tokio::test]
    async fn who_is_right_is_remembered_and_who_is_wrong_is_not() {
        let verifier = PasswordVerifier::default();
        let users = verifier.users_of(&file(FAST));
        let verify = async |name, password| users.verify(credentials(name, password)).await;
        assert_eq!(verify("alice", "wrong").await, PasswordVerdict::Wrong);
        assert_eq!(verify("nobody", "correct horse").await, PasswordVerdict::Wrong);
        assert!(users.right().is_empty());
        assert_eq!(verify("alice", "correct horse").await, PasswordVerdict::Right);
        assert_eq!(users.right().len(), 1);
        assert!(users.is_known(&credentials("alice", "correct horse")));
        for (name, password) in [("alice", "wrong"), ("alice", ""), ("bob", "correct horse")] {
            assert!(!users.is_known(&credentials(name, password)), "{name} {password}");
            assert_eq!(verify(name, password).await, PasswordVerdict::Wrong, "{name} {password}");
        }
    }

    #[tokio::test]
    async fn an_equal_file_keeps_what_is_known_and_a_changed_one_does_not() {
        let verifier = PasswordVerifier::default();
        let before = verifier.users_of(&file(FAST));
        let right = credentials("alice", "correct horse");
        assert_eq!(before.verify(right.clone()).await, PasswordVerdict::Right);
        assert!(verifier.users_of(&file(&format!("# the same\n{FAST}"))).is_known(&right));
        let other = FAST.replace("alice", "bob") + FAST;
        let after = verifier.users_of(&file(&other));
        assert!(!after.is_known(&right));
        drop((before, after));
        assert!(!verifier.users_of(&file(FAST)).is_known(&right));
    }

    #[tokio::test]
    async fn a_bounded_number_waits_and_the_rest_is_told_so() {
        let verifier = PasswordVerifier::default();
        let users = verifier.users_of(&file(FAST));
        let mut waiting = JoinSet::new();
        for guess in 0..3 * MAX_WAITING {
            let users = Arc::clone(&users);
            waiting
                .spawn(async move { users.verify(credentials("alice", &guess.to_string())).await });
        }
        let verdicts = waiting.join_all().await;
        let busy = verdicts.iter().filter(|verdict| **verdict == PasswordVerdict::Busy).count();
        let wrong = verdicts.iter().filter(|verdict| **verdict == PasswordVerdict::Wrong).count();
        assert_eq!(busy + wrong, 3 * MAX_WAITING);
        // The thread may have taken some while others came.
        assert!((MAX_WAITING..2 * MAX_WAITING).contains(&wrong), "{wrong}");
        assert_eq!(
            users.verify(credentials("alice", "1")).await,
            PasswordVerdict::Wrong,
            "room again"
        );
    }
}
