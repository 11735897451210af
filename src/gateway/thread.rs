//! A thread with an event loop of its own, whose end does not go unnoticed.

use std::io;
use std::thread;

use tokio::runtime::LocalRuntime;
use tokio::sync::oneshot;

use super::Error;

/// The end of a thread, as its owner sees it.
#[derive(Debug)]
pub(super) struct Thread {
    name: &'static str,
    // An error of the channel means that it ended without a word: in a panic.
    ended: oneshot::Receiver<Result<(), String>>,
    end: Option<Result<(), String>>,
}

impl Thread {
    /// Starts a thread that runs what `body` makes on it, to its end. Waits until it has its event
    /// loop: one that cannot have it fails the start.
    pub(super) fn start<F>(
        name: &'static str,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = Result<(), String>>,
    {
        let (starting, started) = std::sync::mpsc::channel();
        let (ending, ended) = oneshot::channel();
        // It tells its end through `ended`, and nobody waits for more.
        drop(thread::Builder::new().name(name.into()).spawn(move || {
            // Who starts it waits for this, below.
            let runtime = match LocalRuntime::new() {
                Ok(runtime) => runtime,
                Err(error) => return starting.send(Err(error)).unwrap_or_default(),
            };
            starting.send(Ok(())).unwrap_or_default();
            if ending.send(runtime.block_on(async { body().await })).is_err() {
                tracing::debug!(name, "nobody waits for the end of this thread");
            }
        })?);
        started.recv().map_err(io::Error::other)??;
        Ok(Self { name, ended, end: None })
    }

    /// Waits until it has ended, and answers the same ever after. Cancel safe.
    ///
    /// # Errors
    /// It failed, or ended in a panic.
    pub(super) async fn ended(&mut self) -> Result<(), Error> {
        let end = match &self.end {
            Some(end) => end,
            None => {
                let end = (&mut self.ended).await;
                self.end.insert(end.unwrap_or_else(|_silent| Err("it ended in a panic".into())))
            }
        };
        let what = self.name;
        end.clone().map_err(|cause| Error::Thread { what, cause })
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::LocalRuntime;

    use super::Thread;

    fn end_of<F: Future<Output = Result<(), String>>>(
        body: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), String> {
        let mut thread = Thread::start("shard", body).expect("a thread");
        let runtime = LocalRuntime::new().expect("a runtime");
        let first = runtime.block_on(thread.ended()).map_err(|error| error.to_string());
        let again = runtime.block_on(thread.ended()).map_err(|error| error.to_string());
        assert_eq!(first, again);
        first
    }

    #[test]
    fn a_panic_of_a_thread_is_told_from_a_good_end() {
        assert_eq!(end_of(|| async { Ok(()) }), Ok(()));
        let failed = end_of(|| async { Err("the hub ended".to_owned()) });
        assert_eq!(failed, Err("a thread has failed: shard: the hub ended".to_owned()));
        let panicked = end_of(|| async { panic!("a bug") });
        assert_eq!(panicked, Err("a thread has failed: shard: it ended in a panic".to_owned()));
    }
}
