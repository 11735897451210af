//! Where ssegate keeps what outlives it: the local certificate.
//!
//! Knows paths only; the certificate itself is made and read elsewhere.

use std::env;
use std::path::PathBuf;

/// The state directory of this user or service: `$STATE_DIRECTORY` (systemd's, or a container's),
/// else `$XDG_STATE_HOME/ssegate`, else `~/.local/state/ssegate`.
///
/// `None` where none of the three variables says anything usable. The directory need not exist.
pub fn state_dir() -> Option<PathBuf> {
    state_dir_from(|name| env::var_os(name).map(PathBuf::from))
}

/// The certificate of `self_signed: true`, in PEM. It holds no secret; clients on this machine may
/// trust it.
pub fn local_certificate() -> Option<PathBuf> {
    state_dir().map(|dir| dir.join("local.crt"))
}

fn state_dir_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The XDG specification: a relative path is to be ignored. It would mean another directory for
    // `ssegate run` than for `ssegate sub`.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    first_of(variable("STATE_DIRECTORY"))
        .or_else(|| absolute("XDG_STATE_HOME").map(|dir| dir.join("ssegate")))
        .or_else(|| absolute("HOME").map(|dir| dir.join(".local/state/ssegate")))
}

/// systemd joins several state directories with colons; the first one is ours.
fn first_of(directories: Option<PathBuf>) -> Option<PathBuf> {
    let directories = directories?;
    env::split_paths(&directories).next().filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::state_dir_from;

    #[test]
    fn the_state_directory_is_the_services_else_the_users() {
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
