//! A configuration is read on a thread of its own, so that the memory of reading is given back.
//!
//! Reading takes several times as much as the settings that come of it. glibc keeps the memory of
//! threads apart, and gives none back above a piece that is still in use: so nothing that was made there
//! stays. Without this a gateway with 2,000 routes kept twice its memory after a few reloads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use http::HeaderValue;

use super::{ConfigErrors, Settings};
use crate::hub::StreamSettings;
use crate::route::{ProxySettings, RouteSettings, Target};

type Read = Result<Settings, ConfigErrors>;

/// Where the two threads meet. Not a channel: that would take memory of the one that reads.
#[derive(Default)]
struct Meeting {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Default)]
struct Stage {
    read: Option<Read>,
    is_copied: bool,
    // Also where reading has panicked.
    is_over: bool,
}

/// Calls `read` on a thread of its own, and returns a copy of what it returns.
///
/// # Errors
/// Those of `read`.
pub fn apart(read: impl FnOnce() -> Read + Send) -> Read {
    let meeting = Meeting::default();
    // What all settings share is made here.
    drop(StreamSettings::default());
    thread::scope(|scope| {
        let reader = scope.spawn(|| meeting.read(read));
        let mut stage = meeting.wait_while(|stage| stage.read.is_none() && !stage.is_over);
        let copy = stage.read.as_ref().map(copy);
        stage.is_copied = true;
        drop(stage);
        meeting.changed.notify_all();
        match reader.join() {
            Ok(()) => copy.expect("it was read, or that has panicked"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Meeting {
    fn read(&self, read: impl FnOnce() -> Read) {
        let over = Over(self);
        let read = read();
        self.wait_while(|_| false).read = Some(read);
        self.changed.notify_all();
        let mut stage = self.wait_while(|stage| !stage.is_copied);
        let read = stage.read.take();
        drop(stage);
        // On this thread: another one would keep some of the pieces for its own use.
        drop((read, over));
    }

    fn wait_while(&self, mut is_so: impl FnMut(&Stage) -> bool) -> MutexGuard<'_, Stage> {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = self.changed.wait_while(stage, |stage| is_so(stage));
        stage.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the other one that nothing more comes.
struct Over<'a>(&'a Meeting);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.wait_while(|_| false).is_over = true;
        self.0.changed.notify_all();
    }
}

/// A copy that shares nothing.
fn copy(read: &Read) -> Read {
    let settings = read.as_ref().map_err(Clone::clone)?;
    let routes = settings.routes.iter().map(|route| Arc::new(copy_of_route(route))).collect();
    Ok(Settings { routes, ..settings.clone() })
}

fn copy_of_route(route: &RouteSettings) -> RouteSettings {
    let mut route = route.clone();
    if let Target::Proxy(ProxySettings { host: Some(host), .. }) = &mut route.target {
        // A clone has the same bytes.
        *host = HeaderValue::from_bytes(host.as_bytes()).expect("it is one");
    }
    route
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::apart;
    use crate::config::{ConfigErrors, Settings};

    #[test]
    fn what_is_read_apart_is_the_same_and_shares_nothing() {
        let settings = Settings::dev(None);
        let copy = apart(|| Ok(settings.clone())).expect("settings");
        assert_eq!(format!("{copy:?}"), format!("{settings:?}"));
        let mut routes = settings.routes.iter().zip(&copy.routes);
        assert!(routes.all(|(one, other)| !Arc::ptr_eq(one, other)));
        let errors = ConfigErrors::of_file("f", "no such file".into());
        assert_eq!(apart(|| Err(errors.clone())).expect_err("the same"), errors);
    }

    #[test]
    fn a_panic_while_reading_is_one_here() {
        let reading = AssertUnwindSafe(|| apart(|| panic!("a bug")));
        assert!(catch_unwind(reading).is_err());
    }
}
