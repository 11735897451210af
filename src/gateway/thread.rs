//! A thread with its own event loop, whose owner is notified if it ends.

use std::io;
use std::thread;

use tokio::runtime::LocalRuntime;
use tokio::sync::oneshot;

use super::Error;

/// A handle to a thread.
#[derive(Debug)]
pub(super) struct Thread {
    name: &'static str,
    // Closed without a value if the thread panicked.
    ended: oneshot::Receiver<Result<(), String>>,
    end: Option<Result<(), String>>,
}

impl Thread {
    /// Starts a thread that runs the future of `body` to its end. Waits until the thread has its
    /// runtime.
    ///
    /// # Errors
    /// The thread or its runtime cannot be created.
    pub(super) fn start<F>(
        name: &'static str,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = Result<(), String>>,
    {
        let (starting, started) = std::sync::mpsc::channel();
        let (ending, ended) = oneshot::channel();
        // Detached: its end comes through `ended`.
        drop(thread::Builder::new().name(name.into()).spawn(move || {
            // The caller waits for this, below.
            let runtime = match LocalRuntime::new() {
                Ok(runtime) => runtime,
                Err(error) => return starting.send(Err(error)).unwrap_or_default(),
            };
            starting.send(Ok(())).unwrap_or_default();
            if ending.send(runtime.block_on(async { body().await })).is_err() {
                tracing::debug!(name, "thread ended after its owner");
            }
        })?);
        started.recv().map_err(io::Error::other)??;
        Ok(Self { name, ended, end: None })
    }

    /// Waits until the thread has ended. Returns the same result if called again. Cancel safe.
    ///
    /// # Errors
    /// The thread failed or panicked.
    pub(super) async fn ended(&mut self) -> Result<(), Error> {
        let end = match &self.end {
            Some(end) => end,
            None => {
                let end = (&mut self.ended).await;
                self.end.insert(end.unwrap_or_else(|_closed| Err("it panicked".into())))
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
    fn the_end_of_a_thread_is_reported_as_success_failure_or_panic() {
        assert_eq!(end_of(|| async { Ok(()) }), Ok(()));
        let failed = end_of(|| async { Err("the hub ended".to_owned()) });
        assert_eq!(failed, Err("a thread has failed: shard: the hub ended".to_owned()));
        let panicked = end_of(|| async { panic!("a bug") });
        assert_eq!(panicked, Err("a thread has failed: shard: it panicked".to_owned()));
    }
}
