//! The calls that are being sent, each by a task of its own.
//!
//! A call is returned with its result however its task ends: otherwise one panic would block all later calls for its
//! channel.

use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;

use tokio::task::{self, JoinSet};

use super::call::WebhookCall;

/// A task has panicked; the panic itself has been logged.
#[derive(Debug)]
pub(super) struct DeliveryPanicked;

/// The tasks that send calls, and the calls. Dropping it ends the tasks.
#[derive(Debug)]
pub(super) struct RunningCalls<R> {
    tasks: JoinSet<R>,
    calls: HashMap<task::Id, Rc<WebhookCall>>,
}

impl<R: 'static> RunningCalls<R> {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), calls: HashMap::new() }
    }

    /// Starts a task for a call.
    pub(super) fn start<F: Future<Output = R> + 'static>(
        &mut self,
        call: WebhookCall,
        deliver: impl FnOnce(Rc<WebhookCall>) -> F,
    ) {
        let call = Rc::new(call);
        let task = self.tasks.spawn_local(deliver(Rc::clone(&call)));
        self.calls.insert(task.id(), call);
    }

    /// Waits until a task ends; `None` if there is no task. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<(Rc<WebhookCall>, Result<R, DeliveryPanicked>)> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(DeliveryPanicked)),
        };
        self.calls.remove(&id).map(|call| (call, result))
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::{DeliveryPanicked, RunningCalls};
    use crate::webhook::call::test_call;

    #[tokio::test]
    async fn a_call_whose_delivery_panics_comes_back() {
        let run = async {
            let mut running = RunningCalls::new();
            running.start(test_call("lane", "a", 0), |_call| async { panic!("a delivery") });
            let (ended, result) = running.next().await.expect("a call is being sent");
            assert_eq!(&*ended.channel, "a");
            assert!(matches!(result, Err::<(), _>(DeliveryPanicked)));
            running.start(test_call("lane", "b", 0), |_call| async {});
            let (ended, result) = running.next().await.expect("a call is being sent");
            assert_eq!(&*ended.channel, "b");
            assert!(matches!(result, Ok(())));
            assert!(running.next().await.is_none());
        };
        LocalSet::new().run_until(run).await;
    }
}
