//! Finds out which commit the program is built from, for `ssegate --version` and `ssegate_build_info`.
//!
//! In this order: what `SSEGATE_COMMIT` says (packagers, the Dockerfile), the commit that `git archive` has written into
//! `.commit`, that of a package of cargo, and what git says of this directory. A program that is built in another way is
//! of an unknown commit: that is no error.
//!
//! Builds for tests and development do not ask git: each commit would compile the crate anew.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As long as git's own abbreviation in a large repository.
const SHORT: usize = 12;

fn main() {
    println!("cargo:rerun-if-env-changed=SSEGATE_COMMIT");
    for file in ["build.rs", ".commit", ".cargo_vcs_info.json"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = env::var("SSEGATE_COMMIT")
        .ok()
        .as_deref()
        .and_then(first_hash)
        .or_else(|| of_file(&root.join(".commit")))
        .or_else(|| of_file(&root.join(".cargo_vcs_info.json")))
        .or_else(|| if is_release { of_git(&root) } else { None })
        .unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let text = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo:rustc-env=SSEGATE_COMMIT={commit}");
    println!("cargo:rustc-env=SSEGATE_VERSION={text}");
}

/// The first word of a text that is a hash of git, abbreviated.
fn first_hash(text: &str) -> Option<String> {
    let words = text.split(|of: char| !of.is_ascii_alphanumeric());
    let is_hash = |word: &&str| {
        word.len() >= 7 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    words.into_iter().find(is_hash).map(|hash| hash[..hash.len().min(SHORT)].to_owned())
}

fn of_file(path: &Path) -> Option<String> {
    first_hash(&fs::read_to_string(path).ok()?)
}

/// What git says, if this directory is the top of a repository: it could be a copy within that of others.
fn of_git(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != fs::canonicalize(root).ok()? {
        return None;
    }
    // Where HEAD moves is written there.
    for path in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&["rev-parse", "--git-path", path])?);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    first_hash(&git(&["rev-parse", "HEAD"])?)
}
