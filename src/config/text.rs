//! The text of a configuration: where it comes from, and its way to settings.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use ssegate_strict_yaml::{ConfigErrors, Env, KeyLocation};

use super::purpose::ConfigPurpose;
use super::resolve::resolve;
use super::settings::Settings;
use crate::bounded_file;

/// The text of a configuration.
#[derive(Clone, Debug)]
pub struct Text {
    name: String,
    text: String,
}

impl Text {
    /// Reads the file at `path`. Waits for the writer of a pipe, as in `-c <(envsubst < template)`.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than [`MAX_FILE_BYTES`](bounded_file::MAX_FILE_BYTES).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = File::open(path).and_then(bounded_file::read_text);
        let text = text.map_err(|error| unreadable(&name, &error))?;
        Ok(Self { name, text })
    }

    /// Reads standard input to its end. Relative paths in it start at the working directory.
    ///
    /// # Errors
    /// Standard input cannot be read, or is larger than [`MAX_FILE_BYTES`](bounded_file::MAX_FILE_BYTES).
    pub fn from_stdin() -> Result<Self, ConfigErrors> {
        let name = "standard input".to_owned();
        match bounded_file::read_text(io::stdin().lock()) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(unreadable(&name, &error)),
        }
    }

    /// This text, for tests.
    #[cfg(test)]
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned() }
    }

    /// The name of the file, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The text itself.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Parses the text, with the environment variables of this process.
    ///
    /// # Errors
    /// Every mistake in the text.
    pub fn resolve(&self, purpose: ConfigPurpose) -> Result<Settings, ConfigErrors> {
        let env = |variable: &str| std::env::var(variable).ok();
        parse_for(purpose, &self.text, &self.name, &env)
    }

    /// The keys of `settings`, which this text resolved to, whose secrets are written out in it rather than
    /// taken from a variable.
    pub fn written_secrets<'a>(&self, settings: &'a Settings) -> Vec<&'a str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_written = |location: &&KeyLocation| {
            let line = usize::try_from(location.line).ok().and_then(|line| line.checked_sub(1));
            let line = line.and_then(|line| lines.get(line)).copied().unwrap_or_default();
            let before = usize::try_from(location.column).unwrap_or_default().saturating_sub(1);
            !scalar(line.chars().skip(before).collect::<String>().trim_start()).contains("${")
        };
        let written = settings.secrets.iter().filter(is_written);
        written.map(|location| location.path.as_str()).collect()
    }
}

/// The value at the beginning of `text`, as far as it tells whether it has a variable: to its closing quote, or to
/// where it could end between braces. One without quotes that has a variable there has it before that.
fn scalar(text: &str) -> &str {
    let end = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].find(quote).map(|end| end + 1),
        _ => text.find([',', '}', ']']).into_iter().chain(text.find(" #")).min(),
    };
    end.map_or(text, |end| &text[..end])
}

fn unreadable(name: &str, error: &io::Error) -> ConfigErrors {
    let message = match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::IsADirectory => format!(
            "a directory; give the file in it, such as {}",
            Path::new(name).join("gateway.yaml").display()
        ),
        ErrorKind::InvalidData => "not a text file in UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    ConfigErrors::for_file(name, message)
}

/// Reads the file at `path` again to run a gateway, with the environment variables of this process. Does not
/// wait for a pipe: what came out of one at the start does not come again.
///
/// # Errors
/// Every mistake in the file, that it cannot be read, or that it is not a regular file.
pub fn load(path: impl AsRef<Path>) -> Result<Settings, ConfigErrors> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let text = bounded_file::open(path).and_then(bounded_file::read_text);
    let text = text.map_err(|error| unreadable(&name, &error))?;
    Text { name, text }.resolve(ConfigPurpose::Run)
}

/// Parses `text` to run a gateway. `file` is its name in messages, and relative paths start at its
/// directory. `env` looks up variables. Reads no files but the certificates and keys that the text names.
///
/// # Errors
/// Every mistake in the text. A YAML syntax error ends the parsing, so it is the only one.
pub fn parse(text: &str, file: &str, env: Env<'_>) -> Result<Settings, ConfigErrors> {
    parse_for(ConfigPurpose::Run, text, file, env)
}

fn parse_for(
    purpose: ConfigPurpose,
    text: &str,
    file: &str,
    env: Env<'_>,
) -> Result<Settings, ConfigErrors> {
    let directory = Path::new(file).parent().unwrap_or_else(|| Path::new(""));
    let stand_in = |path: &str| purpose.stand_in(path);
    ssegate_strict_yaml::parse(text, file, (env, &stand_in), |written, mistakes| {
        resolve(written, purpose, directory, mistakes)
    })
}

#[cfg(test)]
mod tests {
    use super::{Text, parse};

    #[test]
    fn secrets_that_are_written_out_are_told_from_those_of_variables() {
        let text = "redis: {url: \"redis://:secret@r\"}\nlisteners: [address: 127.0.0.1:80]\n\
            auth: {jwt: {keys: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, \"${KEY}\", 'x${KEY}'], algorithms: HS256}}\n\
            routes:\n\
            - path: /a\n  events: {channels: [a]}\n  auth:\n    jwt:\n      keys: ${KEY:?a, b}\n      algorithms: HS256\n\
            - path: /b\n  events: {channels: [b]}\n  auth:\n    signed_url:\n      keys:\n        \
            k1: 0123456789abcdef0123456789abcdef   # not ${KEY}, but plain\n        \
            k2: base64:${KEY}\n\
            - {path: /c, events: {channels: [c]}, auth: {signed_url: {keys: {k3: 0123456789abcdef0123456789abcdef}}}}\n";
        let key = "0123456789abcdef0123456789abcdef0123456789abcdef";
        let env = |name: &str| (name == "KEY").then(|| key.to_owned());
        let settings = parse(text, "gateway.yaml", &env).expect("a valid file");
        let text = Text { name: "gateway.yaml".into(), text: text.into() };
        assert_eq!(
            text.written_secrets(&settings),
            [
                "redis.url",
                "auth.jwt.keys[0]",
                "routes[1].auth.signed_url.keys.k1",
                "routes[2].auth.signed_url.keys.k3"
            ]
        );
    }
}
