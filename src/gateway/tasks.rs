//! Tasks that run as long as their owner, which is notified if one ends.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use tokio::task::{Id, JoinError, JoinSet};

/// The tasks of one thread. Dropping it aborts them.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TaskEnd {
    name: &'static str,
    in_panic: bool,
}

impl Tasks {
    /// Spawns a task on this thread.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        // All of them are of one type: what runs a task is compiled once, and not for each of fifty.
        let task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task);
        let handle = self.running.spawn_local(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits until a task has ended. Cancel safe.
    pub(super) async fn any_ended(&mut self) -> TaskEnd {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => self.ended(id, false),
            Some(Err(error)) => self.ended(error.id(), JoinError::is_panic(&error)),
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, id: Id, in_panic: bool) -> TaskEnd {
        TaskEnd { name: self.names.remove(&id).unwrap_or("a task"), in_panic }
    }
}

impl fmt::Display for TaskEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        f.write_str(if self.in_panic { " panicked" } else { " ended" })
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::LocalRuntime;

    use super::Tasks;

    #[test]
    fn the_end_and_the_panic_of_a_task_are_reported() {
        let runtime = LocalRuntime::new().expect("a runtime");
        runtime.block_on(async {
            let mut tasks = Tasks::default();
            tasks.spawn("the hub", std::future::pending());
            tasks.spawn("the source", async {});
            assert_eq!(tasks.any_ended().await.to_string(), "the source ended");
            tasks.spawn("an acceptor", async { panic!("a bug") });
            assert_eq!(tasks.any_ended().await.to_string(), "an acceptor panicked");
        });
    }
}
