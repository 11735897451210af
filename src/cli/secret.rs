//! Secrets of commands: an argument, a file, or a variable of the environment.
//!
//! An argument is kept in the history of the shell, and other users see it in `ps`. So each of these options also
//! takes `@FILE`, and a variable can replace it. No error repeats a secret, nor what follows an `@`, which may be the
//! start of one.

use std::fs::File;
use std::io::{self, Read};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::CliError;

/// The longest secret. A private key in PEM has a few kilobytes.
const MAX_BYTES: u64 = 64 << 10;

/// Stands for standard input.
const STDIN: &str = "-";

/// An option with a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretOption {
    /// Its name.
    pub(super) option: &'static str,
    /// The variable that replaces it.
    pub(super) variable: &'static str,
}

impl SecretOption {
    /// Returns the argument or, without one, the value of the variable, unless that is empty.
    pub(super) fn text(self, argument: Option<&str>) -> Result<Option<String>, CliError> {
        if let Some(argument) = argument {
            return Ok(Some(argument.to_owned()));
        }
        match std::env::var(self.variable) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(CliError::Usage(format!("{}: not valid UTF-8", self.variable)))
            }
        }
    }

    /// Returns the secret that a text contains or names: `SECRET`, `base64:SECRET` or `@FILE`.
    pub(super) fn resolve(self, text: &str) -> Result<Vec<u8>, CliError> {
        // As in gateway.yaml.
        let secret = match (text.strip_prefix('@'), text.strip_prefix("base64:")) {
            (Some(path), _) => self.file(path)?,
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded).map_err(|_not_base64| {
                CliError::Usage(format!("{}: not base64 after base64:", self.option))
            })?,
            (None, None) => text.as_bytes().to_vec(),
        };
        match secret.is_empty() {
            true => Err(CliError::Usage(format!("{}: it is empty", self.option))),
            false => Ok(secret),
        }
    }

    /// The content of a file, without the newline that an editor adds.
    fn file(self, path: &str) -> Result<Vec<u8>, CliError> {
        let content = File::open(path).and_then(|file| bounded(file, MAX_BYTES));
        let mut content = content.map_err(|error| {
            CliError::Usage(format!("{}: cannot read the file after @: {error}", self.option))
        })?;
        if str::from_utf8(&content).is_ok() {
            without_newline(&mut content);
        }
        Ok(content)
    }
}

/// Returns a token: the text itself, `@FILE`, or `-` for standard input. Removes what is often copied with a token:
/// spaces, newlines, `Bearer`.
pub(super) fn token(text: &str, option: SecretOption) -> Result<String, CliError> {
    let content = match text {
        STDIN => bounded(io::stdin().lock(), MAX_BYTES).map_err(CliError::Input)?,
        text => option.resolve(text)?,
    };
    let token = String::from_utf8(content).unwrap_or_default();
    let is_scheme = |word: &str| word.eq_ignore_ascii_case("bearer");
    let token = match token.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [scheme, token] if is_scheme(scheme) => Some(token),
        [token] if !is_scheme(token) => Some(token),
        _ => None,
    };
    let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    let is_none = || CliError::Usage(format!("{}: it is not a token", option.option));
    token.map(str::to_owned).ok_or_else(is_none)
}

/// Reads at most `max` bytes.
pub(super) fn bounded(input: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    input.take(max + 1).read_to_end(&mut content)?;
    match content.len() as u64 > max {
        true => Err(io::Error::other(format!("it has more than {max} bytes"))),
        false => Ok(content),
    }
}

fn without_newline(content: &mut Vec<u8>) {
    if content.ends_with(b"\n") {
        content.pop();
        if content.ends_with(b"\r") {
            content.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SecretOption, token};

    const KEY: SecretOption = SecretOption { option: "--key", variable: "SSEGATE_TEST_UNSET" };

    #[test]
    fn a_secret_is_the_text_or_the_content_of_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        for (content, secret) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b"two\nlines\n\n", b"two\nlines\n"),
            (b"\xff\n", b"\xff\n"),
        ] {
            std::fs::write(&path, content).expect("a file");
            let read = KEY.resolve(&format!("@{}", path.display())).expect("a secret");
            assert_eq!(read, secret);
        }
        assert_eq!(KEY.resolve("a@b").expect("a secret"), b"a@b");
        assert_eq!(KEY.text(None).expect("UTF-8"), None);
    }

    #[test]
    fn an_error_repeats_no_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let wrong = |text: &str| KEY.resolve(text).expect_err(text).to_string();
        assert_eq!(
            wrong("@no/such/file"),
            "--key: cannot read the file after @: No such file or directory (os error 2)"
        );
        std::fs::write(&path, b"\n").expect("a file");
        assert_eq!(wrong(&format!("@{}", path.display())), "--key: it is empty");
        assert_eq!(wrong(""), "--key: it is empty");
        std::fs::write(&path, vec![b'x'; 70_000]).expect("a file");
        assert_eq!(
            wrong(&format!("@{}", path.display())),
            "--key: cannot read the file after @: it has more than 65536 bytes"
        );
        for text in ["a secret", "sécret", "Bearer ", " "] {
            let error = token(text, KEY).expect_err(text).to_string();
            assert_eq!(error, "--key: it is not a token");
        }
    }

    #[test]
    fn a_token_is_taken_as_it_is_copied() {
        for text in ["a.b.c", " a.b.c\n", "Bearer a.b.c", "bearer  a.b.c "] {
            assert_eq!(token(text, KEY).expect("a token"), "a.b.c", "{text:?}");
        }
    }
}
