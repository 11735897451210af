//! A backend that responds to every request, and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Call, Upstream};

/// The backend.
pub(crate) struct Witness {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    /// Listens, and responds with the header lines (each with its end) and the body that `answer` gives.
    pub(crate) async fn start(answer: fn(&Call) -> (String, String)) -> Self {
        let backend = Upstream::start().await;
        let (address, calls) = (backend.address(), Arc::<Mutex<Vec<_>>>::default());
        let heads = Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let call = backend.next_call().await;
                heads.lock().unwrap_or_else(PoisonError::into_inner).push(call.head.clone());
                let (headers, body) = answer(&call);
                call.answer("200 OK", &headers, &body).await;
            }
        });
        Self { address, calls }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
