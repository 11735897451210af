//! The state directory, where ssegate keeps the self-signed certificate between runs, the takeover socket, and the
//! histories for the next run.
//!
//! Knows only paths.

use std::env;
use std::path::PathBuf;

/// Returns the state directory of this user or service: `$STATE_DIRECTORY` (set by systemd or in a
/// container), else `$XDG_STATE_HOME/ssegate`, else `~/.local/state/ssegate`.
///
/// `None` if none of the three variables is usable. The directory need not exist.
pub fn state_dir() -> Option<PathBuf> {
    state_dir_from(|name| env::var_os(name).map(PathBuf::from))
}

/// Returns the state directory of this service: `$STATE_DIRECTORY`. `None` for a process that a user has started.
pub fn of_service() -> Option<PathBuf> {
    first_of(env::var_os("STATE_DIRECTORY").map(PathBuf::from))
}

/// Returns the path of the certificate of `self_signed: true`, in PEM. The file holds no secret;
/// clients on this machine may trust it.
pub fn local_certificate() -> Option<PathBuf> {
    state_dir().map(|dir| dir.join("local.crt"))
}

fn state_dir_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The XDG Base Directory Specification says to ignore relative paths: `ssegate run` and
    // `ssegate sub` in different directories would disagree.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    first_of(variable("STATE_DIRECTORY"))
        .or_else(|| absolute("XDG_STATE_HOME").map(|dir| dir.join("ssegate")))
        .or_else(|| absolute("HOME").map(|dir| dir.join(".local/state/ssegate")))
}

/// systemd joins several state directories with colons; ssegate uses the first.
fn first_of(directories: Option<PathBuf>) -> Option<PathBuf> {
    let directories = directories?;
    env::split_paths(&directories).next().filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::state_dir_from;

    #[test]
    fn the_state_directory_of_the_service_wins_over_that_of_the_user() {
        let cases = [
            ("STATE_DIRECTORY=/var/lib/ssegate HOME=/root", Some("/var/lib/ssegate")),
            ("STATE_DIRECTORY=/var/lib/a:/var/lib/b", Some("/var/lib/a")),
            ("XDG_STATE_HOME=/state HOME=/home/a", Some("/state/ssegate")),
            ("HOME=/home/a", Some("/home/a/.local/state/ssegate")),
            ("XDG_STATE_HOME=state HOME=/h", Some("/h/.local/state/ssegate")),
            ("STATE_DIRECTORY= HOME=/h", Some("/h/.local/state/ssegate")),
            ("", None),
        ];
        for (variables, expected) in cases {
            let variable = |name: &str| {
                let value = |pair: &str| Some(pair.strip_prefix(name)?.strip_prefix('=')?.into());
                variables.split(' ').find_map(value)
            };
            assert_eq!(state_dir_from(variable).as_deref(), expected.map(Path::new), "{variables}");
        }
    }
}
