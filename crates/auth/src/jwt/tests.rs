//! The examples of RFC 7515, appendix A.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Algorithm, JwtSettings, Key, KeySet, verify};
use crate::Refusal;

const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn settings(algorithm: Algorithm) -> JwtSettings {
    let algorithms = vec![algorithm];
    JwtSettings { algorithms, issuers: vec!["joe".into()], ..JwtSettings::default() }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn appendix_a_1_is_verified() {
    let secret =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = Key::from_secret(&URL_SAFE_NO_PAD.decode(secret).expect("base64url"));
    let keys: KeySet = [key].into_iter().collect();
    let token = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let settings = settings(Algorithm::HS256);
    let identity = verify(&token, &keys, &settings, at(1_300_819_379)).expect("good");
    assert_eq!(identity.id, None);
    assert_eq!(identity.claim("http://example.com/is_root").as_deref(), Some("true"));
    let late = verify(&token, &keys, &settings, at(1_300_819_410));
    assert_eq!(late, Err(Refusal::Expired { by: Duration::from_secs(30) }));
}

#[test]
fn appendix_a_3_is_verified() {
    let set = r#"{"keys":[{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let keys = KeySet::from_jwks(set.as_bytes()).expect("a set");
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    assert!(verify(&token, &keys, &settings(Algorithm::ES256), at(1_300_819_379)).is_ok());
}
