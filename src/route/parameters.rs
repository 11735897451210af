//! The parameters of a route's path, such as `channel` in `/events/{channel}`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parameters of a path, percent-decoded once; `None` for a value that is not valid UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, Option<String>)>);

/// A value of the request that is not valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Parameters {
    /// Pairs `names` with the values of a path, which are percent-encoded.
    pub(super) fn decode<'a>(names: &[String], values: impl Iterator<Item = &'a str>) -> Self {
        let decode = |value| percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned);
        let decoded = values.map(decode);
        Self(names.iter().cloned().zip(decoded).collect())
    }

    /// Returns the value of a parameter; `None` where a catch-all matched an empty rest.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, NotUtf8> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.map(|value| value.as_deref().ok_or(NotUtf8)).transpose()
    }

    #[cfg(test)]
    pub(super) fn into_pairs(self) -> Vec<(String, Option<String>)> {
        self.0
    }

    #[cfg(test)]
    pub(super) fn from_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into())
    }
}

/// Returns the names of a path's parameters, in order.
pub(super) fn parameter_names(path: &str) -> Vec<String> {
    let escaped = path.replace("{{", "").replace("}}", "");
    escaped
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name.trim_start_matches('*').to_owned())
        .collect()
}
