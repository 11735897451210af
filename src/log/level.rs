//! The level of the log, which changes while the gateway runs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LogOutput;
use super::settings::LogLevel;

/// Changes the level of the log. A cheap handle that can be sent to any thread.
#[derive(Clone)]
pub struct LevelControl(Arc<LevelShared>);

struct LevelShared {
    output: LogOutput,
    state: Mutex<LevelState>,
}

struct LevelState {
    configured: LogLevel,
    // Used instead of the configured one, until the next reload.
    temporary: Option<LogLevel>,
}

impl LevelControl {
    /// The control of a log that was started with the level `configured`.
    pub fn new(configured: LogLevel, output: LogOutput) -> Self {
        let state = Mutex::new(LevelState { configured, temporary: None });
        Self(Arc::new(LevelShared { output, state }))
    }

    /// Sets the level that a reload has read, which ends a temporary one.
    pub fn configure(&self, level: LogLevel) {
        let mut state = self.lock();
        let has_changed = state.configured != level || state.temporary.is_some();
        *state = LevelState { configured: level, temporary: None };
        if has_changed {
            self.apply(&state);
        }
    }

    /// Sets another level until the next reload, or with `None` the configured one.
    pub fn set(&self, level: Option<LogLevel>) {
        let mut state = self.lock();
        state.temporary = level;
        self.apply(&state);
    }

    /// Sets the level `debug`, or the configured one if another one is set.
    pub fn toggle(&self) {
        let mut state = self.lock();
        state.temporary = match state.temporary {
            None => Some(LogLevel::Debug),
            Some(_) => None,
        };
        self.apply(&state);
    }

    /// The level, as text; a filter if the environment sets one.
    pub fn current(&self) -> String {
        let temporary = self.lock().temporary;
        self.text(temporary)
    }

    /// The level that the next reload returns to, as text.
    pub fn configured(&self) -> String {
        self.text(None)
    }

    fn text(&self, temporary: Option<LogLevel>) -> String {
        match (temporary, &self.0.output.filter) {
            (Some(level), _) => level.as_str().to_owned(),
            (None, Some(filter)) => filter.clone(),
            (None, None) => self.lock().configured.as_str().to_owned(),
        }
    }

    fn apply(&self, state: &LevelState) {
        // A level that the environment sets is not changed by gateway.yaml.
        let configured = Some(state.configured).filter(|_| self.0.output.filter.is_none());
        (self.0.output.set_level)(state.temporary.or(configured));
    }

    fn lock(&self) -> MutexGuard<'_, LevelState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LevelControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelControl").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::LevelControl;
    use crate::log::{LogLevel, LogOutput};

    fn control(filter: Option<&str>) -> (LevelControl, Arc<Mutex<Vec<Option<LogLevel>>>>) {
        let set = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&set);
        let set_level = move |level| seen.lock().expect("no panic").push(level);
        let output = LogOutput {
            set_level: Arc::new(set_level),
            filter: filter.map(str::to_owned),
            ..LogOutput::none()
        };
        (LevelControl::new(LogLevel::Info, output), set)
    }

    #[test]
    fn a_temporary_level_ends_with_a_second_signal_or_a_reload() {
        let (control, set) = control(None);
        let shown = || (control.current(), control.configured());
        let is = |current: &str, configured: &str| (current.to_owned(), configured.to_owned());
        control.toggle();
        assert_eq!(shown(), is("debug", "info"));
        control.toggle();
        assert_eq!(shown(), is("info", "info"));
        control.set(Some(LogLevel::Trace));
        control.toggle();
        assert_eq!(shown(), is("info", "info"));
        control.set(Some(LogLevel::Error));
        control.configure(LogLevel::Warn);
        assert_eq!(shown(), is("warn", "warn"));
        control.configure(LogLevel::Warn);
        let levels = [
            LogLevel::Debug,
            LogLevel::Info,
            LogLevel::Trace,
            LogLevel::Info,
            LogLevel::Error,
            LogLevel::Warn,
        ];
        assert_eq!(*set.lock().expect("no panic"), levels.map(Some));
    }

    #[test]
    fn what_the_environment_says_is_the_configured_level() {
        let (control, set) = control(Some("ssegate=trace"));
        assert_eq!(control.current(), "ssegate=trace");
        control.configure(LogLevel::Error);
        control.toggle();
        assert_eq!(
            (control.current(), control.configured()),
            ("debug".into(), "ssegate=trace".into())
        );
        control.toggle();
        assert_eq!(*set.lock().expect("no panic"), [None, Some(LogLevel::Debug), None]);
    }
}
