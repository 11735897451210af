//! Names and passwords for machines and operators, from a file as `htpasswd` writes it.
//!
//! The file has a slow hash of each password: bcrypt or argon2id. Reading the file reveals no password.
//! Verifying one takes tens of milliseconds on purpose, and up to 256 MiB: the caller does it on a thread of
//! its own, a few at a time, and remembers which were right.

mod hash;

use std::collections::BTreeMap;

use self::hash::PasswordHash;
pub use self::hash::PasswordHashError;

/// The most users of one file.
const MAX_USERS: usize = 10_000;

/// A longer password is refused without being hashed, so that nobody makes the hash slow.
const MAX_PASSWORD_BYTES: usize = 1024;

/// The users and the hashes of their passwords. Two are equal if they have the same users and hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    hashes: BTreeMap<String, PasswordHash>,
    /// The hash of the first line, for names that are not in the file.
    first: PasswordHash,
}

/// What is wrong with a file of passwords. No text holds a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFileError {
    /// There is nobody in it.
    #[error("it has no user; `htpasswd -nB NAME` prints a user's line")]
    Empty,
    /// There are too many users in it.
    #[error("line {0}: it has more than 10000 users")]
    TooMany(usize),
    /// The line has no colon, or nothing before it.
    #[error("line {0}: `name:hash` is expected; `htpasswd -nB NAME` prints such a line")]
    Line(usize),
    /// The name has a control character, with which nobody can log in (RFC 7617, section 2).
    #[error("line {0}: the name has a control character")]
    Name(usize),
    /// The name stands in an earlier line, too: the second number.
    #[error("line {0}: its name has a hash already, in line {1}; remove one of them")]
    Twice(usize, usize),
    /// The hash cannot be used.
    #[error("line {0}: {1}")]
    Hash(usize, PasswordHashError),
}

impl Passwords {
    /// Reads the text of a file: lines of `name:hash`; empty lines and those that begin with `#` are
    /// ignored.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(text: &str) -> Result<Self, Vec<PasswordFileError>> {
        let mut users: BTreeMap<String, (usize, PasswordHash)> = BTreeMap::new();
        let mut first = None;
        let mut errors = Vec::new();
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            match user(number, line) {
                Ok((name, _)) if users.contains_key(name) => {
                    errors.push(PasswordFileError::Twice(number, users[name].0));
                }
                Ok(_) if users.len() == MAX_USERS => {
                    errors.push(PasswordFileError::TooMany(number));
                    break;
                }
                Ok((name, hash)) => {
                    first.get_or_insert_with(|| hash.clone());
                    users.insert(name.to_owned(), (number, hash));
                }
                Err(error) => errors.push(error),
            }
        }
        match first {
            Some(first) if errors.is_empty() => {
                let hashes = users.into_iter().map(|(name, (_, hash))| (name, hash));
                Ok(Self { hashes: hashes.collect(), first })
            }
            None if errors.is_empty() => Err(vec![PasswordFileError::Empty]),
            _ => Err(errors),
        }
    }

    /// The number of users, at least one.
    pub fn user_count(&self) -> usize {
        self.hashes.len()
    }

    /// Returns whether that is the password of `name`. An unknown name takes as long as a wrong password, so
    /// that the time does not reveal which names are in the file. This holds if all hashes are of one kind
    /// and cost.
    pub fn verify(&self, name: &str, password: &str) -> bool {
        if password.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        let (hash, is_known) = self.hash_for(name);
        hash.is_of(password) && is_known
    }

    /// The hash to verify with: for a name that is not in the file, that of the first line.
    fn hash_for(&self, name: &str) -> (&PasswordHash, bool) {
        match self.hashes.get(name) {
            Some(hash) => (hash, true),
            None => (&self.first, false),
        }
    }
}

fn user(number: usize, line: &str) -> Result<(&str, PasswordHash), PasswordFileError> {
    let (name, hash) = line.split_once(':').ok_or(PasswordFileError::Line(number))?;
    if name.is_empty() {
        return Err(PasswordFileError::Line(number));
    }
    if name.contains(char::is_control) {
        return Err(PasswordFileError::Name(number));
    }
    let hash = PasswordHash::parse(hash).map_err(|error| PasswordFileError::Hash(number, error))?;
    Ok((name, hash))
}

#[cfg(test)]
mod tests;
