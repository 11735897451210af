//! Every method of authentication × credentials of every kind × every way to ask for events or for a
//! backend, over HTTP/1.1 and HTTP/2: what is allowed is 200 and has the right channel's events, the rest is
//! 401 or 403, never a stream, and nothing of it reaches the backend.
//!
//! The tokens and signed URLs are made by others ([`minter`]), and all share one gateway ([`scene`]).

mod minter;
mod scene;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use self::minter::{Minter, given};
use self::scene::Scene;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const URL_KEY: &str = "fedcba9876543210fedcba9876543210";
// printf %s cron-token | sha256sum; and of deploy-token, and of gone-token
const CRON: &str = "c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768";
const DEPLOY: &str = "e0e2baa1858c9be1a3e01469a2bc9cf12342e00ddc40e3607234a58ba1891e92";
const GONE: &str = "1e99c30fd397ce5a3896a1bf1de55d22758fd5500a821f6e725cda946b49bfd2";
// htpasswd -nbB -C 4 ann 'right horse'; bob 'brown mule'; dave 'old donkey'
const USERS: &str = "\
ann:$2y$04$4Bbo.qMRXBbA7K.caES42.FMrH/SdHhnDYK5YqVqKmCCYh2/Q4hY6
bob:$2y$04$eEzEy4bw0rQBytniztl2D.fy827AIozVTsz/c/wbwbxaAX//IMw6S
dave:$2y$04$2NQj/ZLttUuKkHLhP4Rz1ez.fT.Lp3Bhi6IQ4bYothqlODMyLkGhK
";
/// The id of the tokens that are revoked.
const TAKEN_BACK: &str = "taken-back";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// One channel.
    Events,
    /// One channel, from the id of an event on, which the header has.
    Resumed,
    /// The same, with the id in the query.
    ResumedByQuery,
    Pattern,
    /// Two channels in the query.
    Several,
    Backend,
    /// A stream that the backend hands over.
    Handover,
}

const TARGETS: [Target; 7] = [
    Target::Events,
    Target::Resumed,
    Target::ResumedByQuery,
    Target::Pattern,
    Target::Several,
    Target::Backend,
    Target::Handover,
];

impl Target {
    /// Path and query, behind the prefix of the method's routes.
    fn path(self) -> &'static str {
        match self {
            Self::Events => "events?channel=orders:42:7",
            Self::Resumed | Self::ResumedByQuery => "events?channel=orders:42:missed",
            Self::Pattern => "events?channel=orders:42:*",
            Self::Several => "events?channel=news&channel=orders:42:7",
            Self::Backend => "app/page?y=1",
            Self::Handover => "hold/page?y=1",
        }
    }
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// A stream: these messages are published, of which it has all but the first.
    Stream(Vec<(String, String)>),
    /// A stream that begins with this message, which was published before.
    Missed(String),
    /// The backend's response, which was told that it is this user.
    Page(String),
    Refused(u16),
    /// An end without an event, and a time to come back: it cannot be decided now.
    NotNow,
}

impl Outcome {
    /// A stream of these channels, and not of `foreign`.
    fn stream<const N: usize>(foreign: &str, channels: [&str; N]) -> Self {
        let message = |channel: &str| (channel.to_owned(), format!("of {channel}"));
        Self::Stream([foreign].into_iter().chain(channels).map(message).collect())
    }

    /// What somebody with a good JSON Web Token of `user` gets, or of a signed URL by the key `user`.
    fn of_user(user: &str, target: Target) -> Self {
        let is_signed = user == "k1";
        match target {
            Target::Backend => Self::Page(user.to_owned()),
            Target::Handover if user == "43" => Self::stream("orders:42:7", ["orders:43:7"]),
            Target::Handover => Self::stream("orders:43:7", [&format!("orders:{user}:7")]),
            _ if user != "42" && !is_signed => Self::Refused(403),
            Target::Events => Self::stream("orders:43:7", ["orders:42:7"]),
            Target::Resumed | Target::ResumedByQuery => Self::Missed("orders:42:missed".to_owned()),
            Target::Pattern => Self::stream("orders:43:7", ["orders:42:9", "orders:42:7"]),
            Target::Several => Self::stream("orders:43:7", ["news", "orders:42:7"]),
        }
    }

    /// What the machine with this name gets, whose own channels end in its name.
    fn of_machine(name: &str, other: &str, target: Target) -> Self {
        let of = |channel: &str, name: &str| format!("{channel}:{name}");
        let (order, news) = (of("orders:42:7", name), of("news", name));
        let foreign = of("orders:42:7", other);
        match target {
            Target::Events => Self::stream(&foreign, [&order]),
            Target::Resumed | Target::ResumedByQuery => Self::Missed(of("orders:42:missed", name)),
            // It could match the channels of others.
            Target::Pattern => Self::Refused(403),
            Target::Several => Self::stream(&foreign, [&news, &order]),
            Target::Backend => Self::Page(name.to_owned()),
            Target::Handover => {
                Self::stream(&format!("orders:{other}:7"), [&format!("orders:{name}:7")])
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs PyJWT, jose and php-cli: run by tests/run"]
async fn what_is_allowed_is_allowed_and_the_rest_is_401_or_403() {
    let given = given();
    let (scene, minters) = tokio::join!(Scene::start(&given), Minter::all(&given));
    revoke_some(&scene, &minters).await;
    for target in TARGETS {
        let path = format!("/jwt/{}", target.path());
        scene.check("no token", scene.request(target, &path), &Outcome::Refused(401)).await;
        for minter in &minters {
            check_tokens(&scene, minter, target).await;
            check_urls(&scene, minter, target).await;
        }
        check_static_tokens(&scene, target).await;
        check_sessions(&scene, target).await;
        check_passwords(&scene, target).await;
    }
}

/// Takes credentials of every method back, each of which was good until then.
async fn revoke_some(scene: &Scene, minters: &[Minter]) {
    let page = Target::Backend.path();
    let get = |method: &str| scene.request(Target::Backend, &format!("/{method}/{page}"));
    let mut good = vec![
        ("gone", get("tokens").header("authorization", "Bearer gone-token")),
        ("carol", get("forward").header("cookie", "session=of-carol")),
        ("dave", get("basic").header("authorization", &basic("dave:old donkey"))),
    ];
    for minter in minters {
        let (_, token) =
            minter.tokens().into_iter().find(|(kind, _)| kind == "ES256 revoked").unwrap();
        good.push(("42", get("jwt").header("authorization", &format!("Bearer {token}"))));
        let url = minter.urls(&format!("/signed/{page}"))["revoked"];
        good.push(("k3", scene.request(Target::Backend, url)));
    }
    for (who, request) in good {
        let expected = Outcome::Page(who.to_owned());
        scene.check("what is revoked later", request, &expected).await;
    }
    scene.revoke(&json!({"token": TAKEN_BACK})).await;
    for who in ["gone", "carol", "dave", "k3"] {
        scene.revoke(&json!({"sub": who, "block": true})).await;
    }
}

async fn check_tokens(scene: &Scene, minter: &Minter, target: Target) {
    let path = format!("/jwt/{}", target.path());
    for (kind, token) in minter.tokens() {
        let expected = match kind.split_once(' ').expect("algorithm and kind").1 {
            "good" => Outcome::of_user("42", target),
            "another_user" => Outcome::of_user("43", target),
            _ => Outcome::Refused(401),
        };
        let what = format!("{kind} of {}", minter.name);
        let bearer = format!("Bearer {token}");
        let request = scene.request(target, &path).header("authorization", &bearer);
        scene.check(&what, request, &expected).await;
        if kind.starts_with("HS256") || kind.starts_with("forged") {
            let cookie = format!("a=b; token={token}");
            let cookie = scene.request(target, &path).header("cookie", &cookie);
            scene.check(&what, cookie, &expected).await;
            let query = scene.request(target, &format!("{path}&token={token}"));
            scene.check(&what, query, &expected).await;
        }
    }
}

async fn check_urls(scene: &Scene, minter: &Minter, target: Target) {
    let path = format!("/signed/{}", target.path());
    let another = minter.urls("/signed/events?channel=orders:43:7")["good"].to_owned();
    let stolen = another.replacen("/signed/events?channel=orders:43:7", &path, 1);
    let mut urls = minter.urls(&path);
    urls.extend([("none", &*path), ("another_user", &*stolen)]);
    for (kind, url) in urls {
        let expected = match kind {
            "good" => Outcome::of_user("k1", target),
            _ => Outcome::Refused(403),
        };
        let what = format!("{kind} URL of {}", minter.name);
        scene.check(&what, scene.request(target, url), &expected).await;
    }
}

async fn check_static_tokens(scene: &Scene, target: Target) {
    let path = format!("/tokens/{}", target.path());
    for (token, expected) in [
        ("Bearer cron-token", Outcome::of_machine("cron", "deploy", target)),
        ("Bearer deploy-token", Outcome::of_machine("deploy", "cron", target)),
        ("Bearer gone-token", Outcome::Refused(401)),
        ("Bearer wrong-token", Outcome::Refused(401)),
        ("Bearer cron-tokem", Outcome::Refused(401)),
        ("Bearer cron", Outcome::Refused(401)),
        (&*format!("Bearer {CRON}"), Outcome::Refused(401)),
        ("Basic Y3Jvbjpjcm9uLXRva2Vu", Outcome::Refused(401)),
        ("Bearer", Outcome::Refused(401)),
    ] {
        let request = scene.request(target, &path).header("authorization", token);
        scene.check("a static token", request, &expected).await;
    }
    scene.check("no token", scene.request(target, &path), &Outcome::Refused(401)).await;
}

async fn check_sessions(scene: &Scene, target: Target) {
    let path = format!("/forward/{}", target.path());
    for (session, expected) in [
        ("of-ann", Outcome::of_machine("ann", "bob", target)),
        ("of-bob", Outcome::of_machine("bob", "ann", target)),
        ("of-nobody", Outcome::Refused(401)),
        ("of-banned", Outcome::Refused(403)),
        ("of-carol", Outcome::Refused(401)),
        ("breaks", Outcome::NotNow),
        // It allows the first one again, whatever it has said to others meanwhile.
        ("of-ann", Outcome::of_machine("ann", "bob", target)),
    ] {
        let cookie = format!("session={session}");
        let request = scene.request(target, &path).header("cookie", &cookie);
        scene.check("a session", request, &expected).await;
    }
    scene.check("no session", scene.request(target, &path), &Outcome::Refused(401)).await;
}

async fn check_passwords(scene: &Scene, target: Target) {
    let path = format!("/basic/{}", target.path());
    let good = basic("ann:right horse");
    let tampered = good.replacen("YW5u", "YW5v", 1);
    assert_ne!(good, tampered);
    for (credentials, expected) in [
        (&*good, Outcome::of_machine("ann", "bob", target)),
        (&*basic("bob:brown mule"), Outcome::of_machine("bob", "ann", target)),
        (&*basic("ann:right horsf"), Outcome::Refused(401)),
        (&*basic("ann:"), Outcome::Refused(401)),
        (&*basic("ann:brown mule"), Outcome::Refused(401)),
        (&*basic("nobody:right horse"), Outcome::Refused(401)),
        (&*basic("dave:old donkey"), Outcome::Refused(401)),
        (&*tampered, Outcome::Refused(401)),
        (&*good.replace("Basic", "Bearer"), Outcome::Refused(401)),
        (&*basic(USERS.lines().next().expect("a user")), Outcome::Refused(401)),
    ] {
        let request = scene.request(target, &path).header("authorization", credentials);
        scene.check("a password", request, &expected).await;
    }
    scene.check("no password", scene.request(target, &path), &Outcome::Refused(401)).await;
}

/// The field of a name and a password, with a colon between.
fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}
