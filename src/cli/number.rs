//! Numbers as arguments. The errors name the range; clap adds the option.

/// Parses a port; 0 is a free one.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "use a number from 0 to 65535".into())
}

/// Parses a number of at least 1.
pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "use a whole number of at least 1".into())
}
