//! `auth`: its mistakes, and what it is without one.

use insta::assert_snapshot;
use ssegate_auth::TokenPlace;

use super::{mistakes, settings, with_routes};
use crate::auth::{MethodSettings, Requirement};

const TOKEN: &str =
    "{ name: cron, sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b }";
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

#[test]
fn a_route_has_the_auth_of_the_file_or_its_own_or_none() {
    let settings = settings(&format!(
        "auth: {{ tokens: [{TOKEN}], max_streams: 5 }}\n{}",
        with_routes(&format!(
            "- {{path: /a, events: {{channels: [\"{{auth.id}}\"]}}}}\n\
             - {{path: /b, events: {{channels: [x]}}, auth: off}}\n\
             - path: /c\n  proxy: {{upstream: \"http://b\", pass: {{x-user: \"{{claim.sub}}\"}}}}\n  \
             auth: {{any: [{{jwt: {{keys: {SECRET}, algorithms: HS256, from: [\"cookie:t\"]}}}}, {{tokens: [{TOKEN}]}}]}}\n"
        ))
    ));
    let auth = |route: usize| settings.routes[route].auth.clone();
    let first = auth(0).expect("that of the file");
    assert_eq!(first.max_streams, Some(5));
    assert!(matches!(&first.requirement, Requirement::One(MethodSettings::Tokens(_))));
    assert_eq!(auth(1), None);
    let third = auth(2).expect("its own");
    assert_eq!(third.methods().len(), 2);
    assert_eq!(third.methods()[0].places(), [TokenPlace::Cookie("t".into())]);
}

#[test]
fn a_mistake_in_auth_says_how_to_fix_it_and_repeats_no_secret() {
    let auths = [
        "{}".to_owned(),
        format!("{{ jwt: {{ keys: {SECRET}, algorithms: HS256 }}, tokens: [{TOKEN}] }}"),
        "{ jwt: { algorithms: HS256 } }".to_owned(),
        format!("{{ jwt: {{ keys: {SECRET} }} }}"),
        format!("{{ jwt: {{ keys: {SECRET}, algorithms: none }} }}"),
        format!("{{ jwt: {{ keys: {SECRET}, algorithms: [HS256, RS256] }} }}"),
        format!(
            "{{ jwt: {{ keys: {SECRET}, algorithms: HS256, from: [cookies, \"query:a&b\"] }} }}"
        ),
        format!("{{ jwt: {{ keys: {SECRET}, algorithms: HS256, renew: 30s }} }}"),
        format!("{{ jwt: {{ keys: \"base64:{SECRET}!\", algorithms: HS256 }} }}"),
        "{ jwt: { keys: \"-----BEGIN PUBLIC KEY-----\", algorithms: RS256 } }".to_owned(),
        "{ signed_url: { keys: { k1: hunter2 } } }".to_owned(),
        format!("{{ signed_url: {{ keys: {{ \"k 1\": {SECRET} }} }} }}"),
        "{ jwt: { jwks: \"https://me:hunter2@id/jwks\", algorithms: RS256, audience: a } }"
            .to_owned(),
        "{ jwt: { jwks: \"https://id/jwks\", algorithms: RS256 } }".to_owned(),
        "{ jwt: { jwks: \"https://id/jwks\", algorithms: HS256, audience: a } }".to_owned(),
        "{ jwt: { jwks: \"http://id/jwks\", jwks_ca: x, algorithms: RS256, audience: a } }"
            .to_owned(),
        "{ jwt: { jwks: keys.json, algorithms: RS256 } }".to_owned(),
        "{ tokens: [{ name: cron, sha256: hunter2 }, { sha256: x }] }".to_owned(),
        format!("{{ any: [{{ tokens: [{TOKEN}], max_streams: 1 }}, {{}}] }}"),
        "{ all: [] }".to_owned(),
        "{ basic: { users: x, realm: 'a\"b' } }".to_owned(),
        "on".to_owned(),
    ];
    let route = |(number, auth): (usize, &String)| {
        format!("- {{path: /{number}, events: {{channels: [x]}}, auth: {auth}}}\n")
    };
    let routes: String = auths.iter().enumerate().map(route).collect();
    let told = mistakes(&with_routes(&routes));
    assert!(!told.contains("hunter2"), "{told}");
    assert_snapshot!(told, @r#"
    routes[0].auth: has no method; set one of forward, jwt, signed_url, tokens and basic, or several under any or all (gateway.yaml:4:45)
    routes[1].auth: has jwt and tokens; write any: or all: with a list of them (gateway.yaml:5:45)
    routes[2].auth.jwt.keys: missing; set keys, key_files or jwks, such as keys: "${JWT_KEY}" (gateway.yaml:6:52)
    routes[3].auth.jwt.algorithms: missing; set the algorithms with which tokens are signed, such as HS256 or [RS256, ES256] (gateway.yaml:7:52)
    routes[4].auth.jwt.algorithms: none is no signature: anybody could make such a token (gateway.yaml:8:113)
    routes[5].auth.jwt.algorithms: no key is of a kind that signs with RS256 (gateway.yaml:9:52)
    routes[6].auth.jwt.from[0]: expected bearer, cookie:NAME or query:NAME; this is "cookies" (gateway.yaml:10:127)
    routes[6].auth.jwt.from[1]: expected bearer, cookie:NAME or query:NAME; this is "query:a&b" (gateway.yaml:10:136)
    routes[7].auth.jwt.renew: is for tokens in cookies; add cookie:NAME to from (gateway.yaml:11:127)
    routes[8].auth.jwt.keys: the text after base64: is not valid base64 (gateway.yaml:12:60)
    routes[9].auth.jwt.keys: it is not a public key or certificate in PEM (gateway.yaml:13:60)
    routes[10].auth.signed_url.keys.k1: has 7 bytes, at least 32 are required; generate one with: openssl rand -base64 32 (gateway.yaml:14:74)
    routes[11].auth.signed_url.keys.k 1: its name may have letters, digits, - and _ only (gateway.yaml:15:77)
    routes[12].auth.jwt.jwks: a user and a password are not supported in the URL of keys (gateway.yaml:16:61)
    routes[13].auth.jwt.audience: missing; set whom the tokens are for, since the keys of a URL sign tokens for other services too (gateway.yaml:17:53)
    routes[14].auth.jwt.algorithms: no key is of a kind that signs with HS256 (gateway.yaml:18:53)
    routes[15].auth.jwt.jwks_ca: is for a jwks with https://; remove it (gateway.yaml:19:88)
    routes[16].auth.jwt.jwks: no such file: keys.json (gateway.yaml:20:61)
    routes[17].auth.tokens[0].sha256: is not a SHA-256 of 64 hexadecimal digits; set the SHA-256 of the token: printf %s TOKEN | sha256sum (gateway.yaml:21:79)
    routes[17].auth.tokens[1].name: missing; name who presents the token (gateway.yaml:21:90)
    routes[17].auth.tokens[1].sha256: is not a SHA-256 of 64 hexadecimal digits; set the SHA-256 of the token: printf %s TOKEN | sha256sum (gateway.yaml:21:100)
    routes[18].auth.any[0].max_streams: stands beside any or all, not in the list (gateway.yaml:22:169)
    routes[18].auth.any[1]: has no method; set one of forward, jwt, signed_url, tokens and basic, or several under any or all (gateway.yaml:22:174)
    routes[19].auth.all: the list is empty; set one of forward, jwt, signed_url, tokens and basic, or several under any or all (gateway.yaml:23:53)
    routes[20].auth.basic.realm: may have printable ASCII without quotes and backslashes only (gateway.yaml:24:75)
    routes[20].auth.basic.users: no such file: x (gateway.yaml:24:63)
    routes[21].auth: expected a mapping or off; this is "on" (gateway.yaml:25:46)
    "#);
}

#[test]
fn what_needs_auth_says_so_where_there_is_none() {
    let told = mistakes(&with_routes(
        "- {path: /a, events: {channels: [\"{auth.id}\"]}}\n\
         - {path: /b, events: {claim: channels}}\n\
         - {path: /c, proxy: {upstream: \"http://b\", pass: {x-user: \"{auth.id}\"}}}\n\
         - {path: /d, proxy: {upstream: \"http://b\", pass: {cookie: a, \"x y\": b, x_user: c, x-d: \"{d}\"}}}\n",
    ));
    assert_snapshot!(told, @r#"
    routes[0].events.channels[0]: {auth.id} needs auth on the route, or for the whole file (gateway.yaml:4:34)
    routes[1].events.claim: needs auth on the route, whose tokens have the claim (gateway.yaml:5:30)
    routes[2].proxy.pass: needs auth on the route, or for the whole file (gateway.yaml:6:50)
    routes[3].proxy.pass: needs auth on the route, or for the whole file (gateway.yaml:7:50)
    routes[3].proxy.pass.cookie: "cookie" is not for identities; use one of your own, such as x-user (gateway.yaml:7:59)
    routes[3].proxy.pass.x y: "x y" is not the name of a header field (gateway.yaml:7:69)
    routes[3].proxy.pass.x_user: "x_user" is not for identities; use one of your own, such as x-user (gateway.yaml:7:80)
    routes[3].proxy.pass.x-d: {d} is not known here; write {auth.id} or {claim.name} (gateway.yaml:7:88)
    "#);
}
