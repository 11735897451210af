//! The thread of the admin listener.

use std::io;
use std::net::TcpListener;

use tokio_util::sync::CancellationToken;

use super::thread::Thread;
use crate::admin::Admin;

/// Starts the admin listener on a thread of its own: rendering all metrics takes milliseconds,
/// which would delay events on the thread of the source. Dropping the returned future stops it.
pub(super) fn administer(
    admin: Admin,
    socket: TcpListener,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    let stopping = stop.clone().drop_guard();
    let mut thread = Thread::start("admin", async move || {
        let socket =
            tokio::net::TcpListener::from_std(socket).map_err(|error| error.to_string())?;
        admin.serve(socket, stop).await;
        Ok(())
    })?;
    Ok(async move {
        let ended = thread.ended().await;
        drop(stopping);
        if let Err(error) = ended {
            tracing::error!(%error, "the admin listener has failed");
        }
    })
}
