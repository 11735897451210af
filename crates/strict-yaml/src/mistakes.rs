//! Collects mistakes while the work goes on, so that one run finds them all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::{KeyLocation, Mistake};
use crate::substituted::Substituted;
use crate::wording::without_passwords;

/// How each message about an unknown key begins.
pub(crate) const UNKNOWN_KEY: &str = "unknown key";

/// The mistakes found so far. The code that finds one notes it and continues with a default.
#[derive(Debug, Default)]
pub struct Mistakes {
    noted: RefCell<Vec<NotedFault>>,
    /// By line and column: values that came from the environment. No message repeats them.
    secrets: RefCell<HashMap<(u32, u32), Substituted>>,
}

/// A mistake whose message may still become more precise.
#[derive(Debug)]
struct NotedFault {
    location: KeyLocation,
    fault: Fault,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// In words.
    Message(String),
    /// It should be a whole number. The range of a key is known only to the mapping that declares it, after
    /// the value was read.
    NotANumber {
        /// The allowed range as text with a leading space; empty if the key has no range.
        range: String,
        /// What is there instead.
        found: String,
    },
}

impl Fault {
    /// What is wrong, and how to fix it.
    pub(crate) fn into_message(self) -> String {
        match self {
            Self::Message(message) => message,
            Self::NotANumber { range, found } => format!("expected a whole number{range}; {found}"),
        }
    }
}

impl Mistakes {
    /// Adds a mistake: what is wrong with the key or value at `location`, and how to fix it.
    pub fn note(&self, location: &KeyLocation, message: impl Into<String>) {
        self.note_fault(location, Fault::Message(message.into()));
    }

    pub(crate) fn note_fault(&self, location: &KeyLocation, fault: Fault) {
        self.noted.borrow_mut().push(NotedFault { location: location.clone(), fault });
    }

    /// Names the range in the mistake at `location`, if a number was expected there.
    pub(crate) fn name_range<T: Display>(&self, location: &KeyLocation, of: &RangeInclusive<T>) {
        for noted in self.noted.borrow_mut().iter_mut() {
            if let Fault::NotANumber { range, .. } = &mut noted.fault
                && noted.location == *location
            {
                *range = format!(" from {} to {}", of.start(), of.end());
            }
        }
    }

    /// Says where the key at `path` belongs, if it was noted as one that is unknown there.
    pub fn explain_unknown_key(&self, path: &str, belongs: &str) {
        for noted in self.noted.borrow_mut().iter_mut() {
            if noted.location.path == path
                && let Fault::Message(message) = &mut noted.fault
                && message.starts_with(UNKNOWN_KEY)
            {
                *message = format!("{UNKNOWN_KEY} of this mapping; it belongs {belongs}");
            }
        }
    }

    /// From now on, no message about the value at `location` repeats what was substituted in it.
    pub(crate) fn keep_secret(&self, location: &KeyLocation, substituted: Substituted) {
        if !substituted.is_empty() {
            let place = (location.line, location.column);
            self.secrets.borrow_mut().insert(place, substituted);
        }
    }

    /// All that was noted.
    pub(crate) fn into_vec(self) -> Vec<Mistake> {
        let secrets = self.secrets.into_inner();
        let mistake = |NotedFault { location, fault }| {
            let message = fault.into_message();
            let message = match secrets.get(&(location.line, location.column)) {
                Some(substituted) => substituted.redact(&message),
                None => without_passwords(&message),
            };
            Mistake { location, message }
        };
        self.noted.into_inner().into_iter().map(mistake).collect()
    }
}
