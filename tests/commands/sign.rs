//! `ssegate sign`, and the examples that sign URLs in other languages.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use http::Uri;
use ssegate_auth::signed_url::{self, SignedRequest, UrlKey};
use ssegate_auth::{Identity, Refusal};
use tempfile::TempDir;

use super::{run, ssegate, stderr, stdout};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const URLS: [&str; 5] = [
    "https://App.example:8443/events?channel=news&channel=a%2Fb",
    "http://127.0.0.1:8080/events/news",
    "http://[::1]:8080/events/n%C3%BC?x",
    "https://app.example/",
    "https://app.example/events?exp=1&kid=x&sig",
];

/// Verifies a signed URL as the gateway does with the request of a client.
fn verify(url: &str, method: &str) -> Result<Identity, Refusal> {
    let uri: Uri = url.parse().unwrap();
    let request = SignedRequest {
        method,
        host: uri.authority().unwrap().as_str(),
        path_and_query: uri.path_and_query().unwrap().as_str(),
    };
    let keys = [UrlKey::new("k1", SECRET.as_bytes()).unwrap()];
    signed_url::verify(request, &keys, SystemTime::now())
}

/// That a URL was signed now, for so long.
fn assert_good(url: &str, of: &str, seconds: u64) {
    assert!(url.starts_with(of), "{url} begins as {of}");
    let expires = verify(url, "GET").expect(url).expires.unwrap();
    let left = expires.duration_since(SystemTime::now()).unwrap();
    let most = Duration::from_secs(seconds);
    assert!(left <= most && left > most / 2, "{url} expires in {left:?}");
}

#[test]
fn a_signed_url_is_accepted_until_it_expires() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("key"), format!("{SECRET}\n")).unwrap();
    let command = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["sign"].iter().chain(arguments).copied().collect();
        ssegate(&arguments, &directory)
    };
    for url in URLS {
        for (signed, seconds) in [
            (command(&[url, "--key", "k1=@key"]).output(), 3600),
            (command(&[url, "--key", &format!("k1={SECRET}"), "--expires", "10m"]).output(), 600),
            (command(&[url]).env("SSEGATE_URL_KEY", "k1=@key").output(), 3600),
        ] {
            let signed = signed.unwrap();
            assert_eq!((signed.status.code(), stderr(&signed)), (Some(0), ""));
            assert_good(stdout(&signed).strip_suffix('\n').unwrap(), url, seconds);
        }
    }
    let post = command(&[URLS[0], "--key", "k1=@key", "--method", "post"]).output().unwrap();
    let post = stdout(&post).trim_end();
    assert!(verify(post, "POST").is_ok());
    assert_eq!(verify(post, "GET"), Err(Refusal::Signature));
}

#[test]
fn a_mistake_says_what_to_do_and_repeats_no_secret() {
    let key = format!("--key=k1={SECRET}");
    let signed = run(&["sign", URLS[0], &key]);
    for (arguments, said) in [
        (&["sign", URLS[0]][..], "give the key: --key NAME=@FILE, or the variable SSEGATE_URL_KEY"),
        (&["sign", URLS[0], "--key", SECRET], "give the key: --key NAME=@FILE"),
        (&["sign", URLS[0], "--key", "k1=hunter2"], "fewer than 32 bytes; openssl rand -hex 32"),
        (&["sign", URLS[0], "--key", &format!("k 1={SECRET}")], "a name has letters, digits"),
        (&["sign", URLS[0], "--key", "k1=@hunter2"], "--key: cannot read the file after @: "),
        (&["sign", "/events", &key], "the URL is not absolute; use https://host/path"),
        (
            &["sign", "https://a.example/{x}", &key],
            "the URL has a {, which browsers rewrite; write it as %7B",
        ),
        (&["sign", stdout(&signed).trim_end(), &key], "the URL is signed already"),
        (&["sign", URLS[0], &key, "--method", "G T"], "use a method such as GET or POST"),
        (&["sign", URLS[0], &key, "--expires", "1y"], "use forms like"),
    ] {
        let output = run(arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(64), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        for secret in ["hunter2", SECRET] {
            assert!(!stderr(&output).contains(secret), "{}", stderr(&output));
        }
    }
}

/// What an example prints for a URL that expires in ten minutes.
fn example(program: &str, file: &str, url: &str, package: &str) -> Output {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/signed-url");
    let mut command = Command::new(program);
    command.arg(directory.join(file)).args([url, "k1", "600"]).env("SECRET", SECRET);
    command.output().unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"))
}

fn assert_example_signs(program: &str, file: &str, package: &str) {
    for url in URLS {
        let output = example(program, file, url, package);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{file} {url}");
        assert_good(stdout(&output).trim_end(), url, 600);
    }
}

#[test]
#[ignore = "needs php-cli: run by tests/run"]
fn the_example_in_php_signs_as_the_gateway_verifies() {
    assert_example_signs("php", "sign.php", "php-cli");
}

#[test]
#[ignore = "needs python3: run by tests/run"]
fn the_example_in_python_signs_as_the_gateway_verifies() {
    assert_example_signs("python3", "sign.py", "python3");
}

#[test]
#[ignore = "needs node: run by tests/run"]
fn the_example_in_node_signs_as_the_gateway_verifies() {
    assert_example_signs("node", "sign.js", "nodejs");
}
