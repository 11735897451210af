//! How a mapping of a configuration is declared, and how its keys set the settings of a program.
//!
//! [`mapping!`](crate::mapping!) declares each key once: its name, its type, its description in the JSON
//! Schema, the setting that it sets, and the range of its value. An absent key leaves the setting unchanged,
//! so the value before is the default.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::choice::{Limit, OrOff};
use crate::error::KeyLocation;
use crate::field::{At, Field};
use crate::mistakes::Mistakes;
use crate::units::{Count, Size, Time, TimeOrZero, check_range};

/// A value of the file that sets a setting `S` of the program.
///
/// A value of the setting's own type implements this; [`sets!`](crate::sets!) declares conversions.
pub trait Sets<S> {
    /// Changes `setting`, or notes a mistake at `location`.
    fn set(&self, setting: &mut S, location: &KeyLocation, mistakes: &Mistakes);
}

impl<T> Field<T> {
    /// Changes `setting` if the key has a value.
    pub fn set<S>(&self, setting: &mut S, mistakes: &Mistakes)
    where
        T: Sets<S>,
    {
        if let Self::Written(At { location, value }) = self {
            value.set(setting, location, mistakes);
        }
    }

    /// The same field if its value is in `range`. Notes a mistake otherwise.
    pub fn within(&self, range: RangeInclusive<T>, mistakes: &Mistakes) -> Self
    where
        T: Clone + PartialOrd + Display,
    {
        let At { location, value } = match self {
            Self::Written(at) => at,
            Self::Invalid(location) => {
                mistakes.name_range(location, &range);
                return self.clone();
            }
            Self::Absent => return Self::Absent,
        };
        match check_range(value, &range) {
            Ok(()) => self.clone(),
            Err(message) => {
                mistakes.note(location, message);
                Self::Invalid(location.clone())
            }
        }
    }
}

/// Declares a mapping: the struct of its keys, each a [`Field`], and how they set settings.
///
/// A line reads `key: Type => setting in least..=most`. A key without a setting is only declared, and
/// resolved by hand. The comment of a key is its description in the JSON Schema. The crate that declares one
/// depends on `serde` and `schemars`, whose derives it uses.
///
/// ```
/// use ssegate_strict_yaml::{Size, mapping};
///
/// #[derive(Debug)]
/// pub struct QueueSettings {
///     pub max_bytes: usize,
///     pub is_lossy: bool,
/// }
///
/// mapping! {
///     /// What waits for a slow reader.
///     pub struct QueueFile sets QueueSettings {
///         /// The largest size of all messages.
///         bytes: Size => max_bytes in Size::kib(1)..=Size::kib(1024),
///         /// Whether the oldest message is dropped when the queue is full.
///         lossy: bool => is_lossy,
///     }
/// }
/// ```
#[macro_export]
macro_rules! mapping {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident sets $settings:ty {
            $(
                $(#[$key_attribute:meta])*
                $key:ident: $value:ty $(=> $($setting:ident).+ $(in $range:expr)?)?,
            )*
        }
    ) => {
        #[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        $(#[$attribute])*
        $visibility struct $name {
            $(
                $(#[$key_attribute])*
                $visibility $key: $crate::Field<$value>,
            )*
        }

        impl $crate::Sets<$settings> for $name {
            fn set(
                &self,
                settings: &mut $settings,
                _: &$crate::KeyLocation,
                mistakes: &$crate::Mistakes,
            ) {
                // Unused where no key has a setting.
                let _ = (&settings, &mistakes);
                $($(
                    self.$key
                        $(.within($range, mistakes))?
                        .set(&mut settings.$($setting).+, mistakes);
                )?)*
            }
        }
    };
}

/// Declares the conversion of a value of the file to a setting.
///
/// ```
/// use ssegate_strict_yaml::{Time, sets};
///
/// pub enum Linger {
///     Never,
///     For(std::time::Duration),
/// }
///
/// sets! {
///     Time => Linger = |time| Linger::For(time.0);
/// }
/// ```
#[macro_export]
macro_rules! sets {
    ($($value:ty => $setting:ty = |$this:ident| $converted:expr;)+) => {
        $(
            impl $crate::Sets<$setting> for $value {
                fn set(
                    &self,
                    setting: &mut $setting,
                    _: &$crate::KeyLocation,
                    _: &$crate::Mistakes,
                ) {
                    let $this = self;
                    *setting = $converted;
                }
            }
        )+
    };
}

sets! {
    Count => usize = |count| count.0;
    Size => usize = |size| size.0;
    // The range of such a key ends at `Size::MAX_LENGTH`.
    Size => u32 = |size| u32::try_from(size.0).unwrap_or(u32::MAX);
    Time => Duration = |time| time.0;
    TimeOrZero => Duration = |time| time.0;
    TimeOrZero => Option<Duration> = |time| Some(time.0).filter(|time| !time.is_zero());
}

impl<T: Clone> Sets<T> for T {
    fn set(&self, setting: &mut T, _: &KeyLocation, _: &Mistakes) {
        setting.clone_from(self);
    }
}

impl<M: Sets<S>, S: Default> Sets<Option<S>> for OrOff<M> {
    fn set(&self, setting: &mut Option<S>, location: &KeyLocation, mistakes: &Mistakes) {
        match self {
            Self::Off => *setting = None,
            Self::On(mapping) => {
                mapping.set(setting.get_or_insert_default(), location, mistakes);
            }
        }
    }
}

impl Sets<Option<u64>> for Limit<Size> {
    fn set(&self, setting: &mut Option<u64>, _: &KeyLocation, _: &Mistakes) {
        *setting = match self {
            Self(OrOff::Off) => None,
            Self(OrOff::On(size)) => Some(size.0 as u64),
        };
    }
}

impl Sets<Option<usize>> for Limit<usize> {
    fn set(&self, setting: &mut Option<usize>, location: &KeyLocation, mistakes: &Mistakes) {
        *setting = match self {
            Self(OrOff::Off) => None,
            Self(OrOff::On(number)) => Some(*number),
        };
        if *setting == Some(0) {
            mistakes.note(location, "must be at least 1, or off; this is 0");
        }
    }
}

impl Sets<Option<Duration>> for Limit<TimeOrZero> {
    fn set(&self, setting: &mut Option<Duration>, location: &KeyLocation, mistakes: &Mistakes) {
        *setting = match self {
            Self(OrOff::Off) => None,
            Self(OrOff::On(time)) => Some(time.0),
        };
        if *setting == Some(Duration::ZERO) {
            mistakes.note(location, "must be at least 1ms, or off; this is 0s");
        }
    }
}
