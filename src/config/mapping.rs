//! How a mapping of gateway.yaml is declared, and how its keys set the settings of the stages.
//!
//! Knows no key of the file.
//!
//! [`mapping!`] declares each key once: its name, its type, its description in the JSON Schema, the setting
//! that it sets, and the range of its value. An absent key leaves the setting as it is, so that its default
//! is that of the stage, or for a key of a route that of `sse`.
//!
//! To add a key, add a line to its mapping in [`file`](mod@super::file), the field and its default to the
//! settings of the stage that uses it, and a line to gateway.yaml.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::{KeyLocation, Mistakes};
use super::field::{At, Field, Limit, OrOff};
use super::units::{Count, Size, Time, TimeOrZero, check_range};

/// A value of the file that sets a setting `S` of a stage.
pub(super) trait Sets<S> {
    /// Changes `setting`, or notes a mistake at `location`.
    fn set(&self, setting: &mut S, location: &KeyLocation, mistakes: &Mistakes);
}

impl<T> Field<T> {
    /// Changes `setting` if the key has a value.
    pub(super) fn set<S>(&self, setting: &mut S, mistakes: &Mistakes)
    where
        T: Sets<S>,
    {
        if let Self::Written(At { location, value }) = self {
            value.set(setting, location, mistakes);
        }
    }

    /// The same field if its value is in `range`. Notes a mistake otherwise.
    pub(super) fn within(&self, range: RangeInclusive<T>, mistakes: &Mistakes) -> Self
    where
        T: Clone + PartialOrd + Display,
    {
        let Self::Written(At { location, value }) = self else { return self.clone() };
        match check_range(value, &range) {
            Ok(()) => self.clone(),
            Err(message) => {
                mistakes.note(location, message);
                Self::Invalid
            }
        }
    }
}

/// Declares a mapping: the struct of its keys, each a [`Field`], and how they set the settings of a stage.
///
/// A line reads `key: Type => setting in least..=most`. A key without a setting is only declared, and
/// resolved by hand.
macro_rules! mapping {
    (
        $(#[$attribute:meta])*
        $name:ident sets $settings:ty {
            $(
                $(#[$key_attribute:meta])*
                $key:ident: $value:ty $(=> $($setting:ident).+ $(in $range:expr)?)?,
            )*
        }
    ) => {
        #[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        $(#[$attribute])*
        pub(in crate::config) struct $name {
            $(
                $(#[$key_attribute])*
                pub(in crate::config) $key: $crate::config::field::Field<$value>,
            )*
        }

        impl $crate::config::mapping::Sets<$settings> for $name {
            fn set(
                &self,
                settings: &mut $settings,
                _: &$crate::config::error::KeyLocation,
                mistakes: &$crate::config::error::Mistakes,
            ) {
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
macro_rules! sets {
    ($($value:ty => $setting:ty = |$this:ident| $converted:expr;)+) => {
        $(
            impl $crate::config::mapping::Sets<$setting> for $value {
                fn set(
                    &self,
                    setting: &mut $setting,
                    _: &$crate::config::error::KeyLocation,
                    _: &$crate::config::error::Mistakes,
                ) {
                    let $this = self;
                    *setting = $converted;
                }
            }
        )+
    };
}

pub(super) use {mapping, sets};

sets! {
    bool => bool = |value| *value;
    u32 => u32 = |value| *value;
    usize => usize = |value| *value;
    Count => usize = |count| count.0;
    Size => usize = |size| size.0;
    // The range of such a key ends at `Size::MAX_LENGTH`.
    Size => u32 = |size| u32::try_from(size.0).unwrap_or(u32::MAX);
    Time => Duration = |time| time.0;
    TimeOrZero => Duration = |time| time.0;
    TimeOrZero => Option<Duration> = |time| Some(time.0).filter(|time| !time.is_zero());
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
