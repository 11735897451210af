//! The signature of a webhook: HMAC-SHA256 of the time, a dot and the body, as Stripe signs its own.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use http::{HeaderName, HeaderValue};

use crate::grip::signature::Secret;
use crate::hex::hex;

/// The name of the header.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("ssegate-signature");

/// The value of the header: `t=SECONDS,v1=HEX`.
pub(super) fn sign(key: &Secret, now: SystemTime, body: &[u8]) -> HeaderValue {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut signing = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key.bytes()));
    signing.update(format!("{seconds}.").as_bytes());
    signing.update(body);
    let value = format!("t={seconds},v1={}", hex(signing.sign().as_ref()));
    HeaderValue::try_from(value).expect("digits, letters and signs are visible ASCII")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::sign;
    use crate::grip::signature::Secret;

    #[test]
    fn time_and_body_are_signed() {
        let key = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec()).expect("long enough");
        let then = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        // printf %s '1790000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let expected =
            "t=1790000000,v1=5949482f8f268ce61c6208ee9050323b82d4c3033bad3f5c14c19f657d409d60";
        assert_eq!(sign(&key, then, b"{}"), expected);
        assert_ne!(sign(&key, then, b"{ }"), expected);
        assert_ne!(sign(&key, then + Duration::from_secs(1), b"{}"), expected);
    }
}
