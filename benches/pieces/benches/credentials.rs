//! What it costs to verify a credential, once for each request on a route with `auth`.
//!
//! ```sh
//! cargo bench -p ssegate-pieces --bench credentials
//! ```

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::json;
use ssegate_auth::jwt::{self, Algorithm, JwtSettings, Key, KeySet, SigningKey};
use ssegate_auth::signed_url::{self, SignedRequest, UrlKey};
use ssegate_auth::static_token::{self, StaticToken, TokenHash};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn tokens(criterion: &mut Criterion) {
    let now = SystemTime::now();
    let until = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs() + 3600;
    let claims = json!({"sub": "42", "exp": until, "channels": ["news", "orders:42:*"]});
    let claims = claims.as_object().expect("an object");
    let pair = |kind| {
        let pair = KeyPair::generate_for(kind).expect("a key");
        let signing = SigningKey::from_pem(&pair.serialize_pem()).expect("a private key");
        (signing, Key::from_pem(&pair.public_key_pem()).expect("a public key"))
    };
    let keys = [
        (Algorithm::HS256, (SigningKey::from_secret(SECRET), Key::from_secret(SECRET))),
        (Algorithm::ES256, pair(&PKCS_ECDSA_P256_SHA256)),
        (Algorithm::EdDSA, pair(&PKCS_ED25519)),
    ];
    for (algorithm, (signing, key)) in keys {
        let token = jwt::mint(claims, &signing, algorithm, None).expect("a token");
        let keys: KeySet = [key].into_iter().collect();
        let settings = JwtSettings { algorithms: vec![algorithm], ..JwtSettings::default() };
        criterion.bench_function(&format!("verify a token, {algorithm:?}"), |bench| {
            bench.iter(|| {
                jwt::verify(black_box(&token), &keys, &settings, now).expect("it is good")
            });
        });
    }
}

fn others(criterion: &mut Criterion) {
    let now = SystemTime::now();
    let key = UrlKey::new("k1", SECRET).expect("a key");
    let request =
        |path_and_query| SignedRequest { method: "GET", host: "app.example", path_and_query };
    let until = now + Duration::from_secs(3600);
    let url = signed_url::sign(request("/events?channel=news"), &key, until).expect("a URL");
    let keys = [key];
    criterion.bench_function("verify a signed URL", |bench| {
        bench
            .iter(|| signed_url::verify(black_box(request(&url)), &keys, now).expect("it is good"));
    });
    let token = |name: &str| StaticToken { name: name.to_owned(), hash: TokenHash::of(name) };
    let known: Vec<_> = (0..10).map(|number| token(&number.to_string())).collect();
    criterion.bench_function("verify a static token, one of ten", |bench| {
        bench.iter(|| static_token::verify(black_box("9"), &known).expect("it is good"));
    });
}

criterion_group!(benches, tokens, others);
criterion_main!(benches);
