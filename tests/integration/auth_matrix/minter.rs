//! Programs of others that make credentials: `PyJWT`, jose and PHP (`tests/minters`), each in one run of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{SECRET, TAKEN_BACK, TARGETS, URL_KEY};
use crate::support::{Program, SOON};

/// A program that makes credentials.
pub(super) struct Minter {
    pub(super) name: &'static str,
    made: Value,
}

impl Minter {
    async fn run(name: &'static str, program: Program, given: &Value) -> Self {
        let output = program.env("GIVEN", given.to_string()).output(SOON).await;
        let made = serde_json::from_str(&output.success()).expect(name);
        Self { name, made }
    }

    /// The three, each in another language.
    pub(super) async fn all(given: &Value) -> [Self; 3] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
        let libraries = target.join("minters");
        let scripts = root.join("tests/minters");
        for needed in ["venv/bin/python", "node_modules/jose"] {
            let needed = libraries.join(needed);
            assert!(
                needed.exists(),
                "{} is missing: apt-get install python3-venv nodejs npm php-cli; tests/minters/install",
                needed.display()
            );
        }
        let python = Program::new(libraries.join("venv/bin/python")).arg(scripts.join("mint.py"));
        let node = Program::new("node").arg(scripts.join("mint.mjs")).env("MODULES", &libraries);
        let php = Program::new("php").arg(scripts.join("mint.php"));
        let (python, node, php) = tokio::join!(
            Self::run("PyJWT", python, given),
            Self::run("jose", node, given),
            Self::run("PHP", php, given),
        );
        [python, node, php]
    }

    /// The tokens: what they are, and the token.
    pub(super) fn tokens(&self) -> Vec<(String, &str)> {
        let algorithms = self.made["tokens"].as_object().expect("algorithms");
        let kinds = algorithms.iter().flat_map(|(algorithm, kinds)| {
            let kinds = kinds.as_object().expect("kinds").iter();
            kinds.map(move |(kind, token)| (format!("{algorithm} {kind}"), token))
        });
        let forged = self.made["forged"].as_object().expect("forged tokens").iter();
        let forged = forged.map(|(kind, token)| (format!("forged {kind}"), token));
        kinds.chain(forged).map(|(kind, token)| (kind, token.as_str().expect("a token"))).collect()
    }

    /// The URLs of `target`: what they are, and the URL.
    pub(super) fn urls(&self, target: &str) -> BTreeMap<&str, &str> {
        let kinds = self.made["urls"][target].as_object().expect(target).iter();
        kinds.map(|(kind, url)| (kind.as_str(), url.as_str().expect("a URL"))).collect()
    }
}

/// What the minters are given.
pub(super) fn given() -> Value {
    let keys = include_str!("../../../crates/auth/tests/openssl/keys.json");
    let keys: Value = serde_json::from_str(keys).expect("JSON");
    let pkcs8 = |name: &str| keys[name]["forms"][2].clone();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let another = ["/signed/events?channel=orders:43:7".to_owned()];
    let targets: Vec<_> = TARGETS
        .map(|target| format!("/signed/{}", target.path()))
        .into_iter()
        .chain(another)
        .collect();
    json!({
        "now": since.as_secs(),
        "secret": SECRET,
        "url_key": URL_KEY,
        "private": {"rsa": pkcs8("rsa"), "ec": pkcs8("p256"), "ed": pkcs8("ed25519")},
        "public": {"rsa": keys["rsa"]["public"], "ec": keys["p256"]["public"], "ed": keys["ed25519"]["public"]},
        "channels": ["news", "orders:42:*"],
        "others": ["news", "orders:43:*"],
        "taken_back": TAKEN_BACK,
        "targets": targets,
    })
}
