//! Reads a configuration on a thread of its own, so that the memory of parsing is returned to the system.
//!
//! Parsing takes several times the memory of the settings it produces. glibc has an arena per thread, and
//! cannot return memory below a block that is still in use. So the caller's thread copies the settings,
//! and everything that the reading thread allocated is freed. Without this a gateway with 2,000 routes
//! kept twice its memory after a few reloads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use http::HeaderValue;
use ssegate_hub::StreamSettings;
use ssegate_strict_yaml::ConfigErrors;

use super::settings::Settings;
use crate::route::{ProxySettings, RouteSettings, Target};

type Read = Result<Settings, ConfigErrors>;

/// What the two threads share. Not a channel: the reading thread would allocate its memory.
#[derive(Default)]
struct Rendezvous {
    state: Mutex<RendezvousState>,
    changed: Condvar,
}

#[derive(Default)]
struct RendezvousState {
    read: Option<Read>,
    is_copied: bool,
    /// Whether the reading thread has ended, also by a panic.
    has_ended: bool,
}

/// Runs `read` on a thread of its own, and returns a copy of its result.
///
/// # Errors
/// Those of `read`.
pub fn on_own_thread(read: impl FnOnce() -> Read + Send) -> Read {
    let rendezvous = Rendezvous::default();
    // Allocates on this thread what all settings share.
    drop(StreamSettings::default());
    thread::scope(|scope| {
        let reader = scope.spawn(|| rendezvous.read(read));
        let mut state = rendezvous.wait_while(|state| state.read.is_none() && !state.has_ended);
        let copy = state.read.as_ref().map(copy);
        state.is_copied = true;
        drop(state);
        rendezvous.changed.notify_all();
        match reader.join() {
            Ok(()) => copy.expect("the thread did not panic, so there is a result"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Rendezvous {
    fn read(&self, read: impl FnOnce() -> Read) {
        let guard = EndGuard(self);
        let read = read();
        self.wait_while(|_| false).read = Some(read);
        self.changed.notify_all();
        let mut state = self.wait_while(|state| !state.is_copied);
        let read = state.read.take();
        drop(state);
        // On this thread: another one would keep some of the blocks in its own cache.
        drop((read, guard));
    }

    fn wait_while(
        &self,
        mut condition: impl FnMut(&RendezvousState) -> bool,
    ) -> MutexGuard<'_, RendezvousState> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.changed.wait_while(state, |state| condition(state));
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signals, when dropped, that the reading thread has ended.
struct EndGuard<'a>(&'a Rendezvous);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.wait_while(|_| false).has_ended = true;
        self.0.changed.notify_all();
    }
}

/// A copy that shares no memory with the original.
fn copy(read: &Read) -> Read {
    let settings = read.as_ref().map_err(Clone::clone)?;
    let routes = settings.routes.iter().map(|route| Arc::new(copy_of_route(route))).collect();
    Ok(Settings { routes, ..settings.clone() })
}

fn copy_of_route(route: &RouteSettings) -> RouteSettings {
    let mut route = route.clone();
    if let Target::Proxy(ProxySettings { host: Some(host), .. }) = &mut route.target {
        // `HeaderValue::clone` would share the bytes.
        *host = HeaderValue::from_bytes(host.as_bytes()).expect("a copy of a valid value");
    }
    route
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::on_own_thread;
    use crate::config::{ConfigErrors, Settings};

    #[test]
    fn the_copy_is_equal_and_shares_no_memory() {
        let settings = Settings::dev(None);
        let copy = on_own_thread(|| Ok(settings.clone())).expect("settings");
        assert_eq!(format!("{copy:?}"), format!("{settings:?}"));
        let mut routes = settings.routes.iter().zip(&copy.routes);
        assert!(routes.all(|(one, other)| !Arc::ptr_eq(one, other)));
        let errors = ConfigErrors::for_file("f", "no such file".into());
        assert_eq!(on_own_thread(|| Err(errors.clone())).expect_err("the same"), errors);
    }

    #[test]
    fn a_panic_of_the_reading_thread_is_passed_on() {
        let reading = AssertUnwindSafe(|| on_own_thread(|| panic!("a bug")));
        assert!(catch_unwind(reading).is_err());
    }
}
