#!/usr/bin/env python3
"""Writes tokens.json: keys and tokens made by PyJWT and cryptography, for tests/pyjwt.rs.

    pip install pyjwt cryptography && ./mint.py > tokens.json

All tokens are as of NOW; the tests pass that time in.
"""

import base64
import hashlib
import hmac
import json

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from datetime import datetime, timedelta, timezone

NOW = 1_800_000_000
SECRET = "a secret of sixty-four bytes, as long as the hash of HS512 is: ok"
CLAIMS = {"sub": "42", "iss": "https://app", "aud": "events", "iat": NOW - 5, "exp": NOW + 600}

private = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
other = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
KIND = {"RS": "rsa", "PS": "rsa", "ES256": "p256", "ES384": "p384", "EdDSA": "ed"}
ALGORITHMS = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


def kind(algorithm):
    return KIND.get(algorithm) or KIND[algorithm[:2]]


def key(algorithm, keys=private):
    name = None if algorithm.startswith("HS") else kind(algorithm)
    return SECRET if name is None else keys[name]


def pem(private_key):
    return private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def certificate(private_key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(timezone.utc))
        .not_valid_after(datetime.now(timezone.utc) + timedelta(days=1))
        .sign(private_key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


def jwk(name, private_key):
    algorithms = {"rsa": jwt.algorithms.RSAAlgorithm, "p256": jwt.algorithms.ECAlgorithm,
                  "p384": jwt.algorithms.ECAlgorithm, "ed": jwt.algorithms.OKPAlgorithm}
    made = json.loads(algorithms[name].to_jwk(private_key.public_key()))
    made.pop("key_ops", None)
    return {**made, "kid": name, "use": "sig"}


def part(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def token(claims=CLAIMS, algorithm="ES256", keys=private, headers=None):
    return jwt.encode(claims, key(algorithm, keys), algorithm=algorithm, headers=headers)


def without(name):
    return {key: value for key, value in CLAIMS.items() if key != name}


good = [
    {
        "algorithm": algorithm,
        "token": token(algorithm=algorithm),
        "kid": None if algorithm.startswith("HS") else token(algorithm=algorithm, headers={"kid": kind(algorithm)}),
    }
    for algorithm in ALGORITHMS
]
es = token()
head, body, signature = es.split(".")
rsa_public = pem(private["rsa"])
alg_twice = part(b'{"alg":"ES256","alg":"none"}')
claims = [
    # name, token, what it is refused as
    ["expired", token({**CLAIMS, "exp": NOW - 31}), "expired"],
    ["expired, as a fraction", token({**CLAIMS, "exp": NOW - 31.5}), "expired"],
    ["within leeway", token({**CLAIMS, "exp": NOW - 29}), None],
    ["expires at the end of the leeway", token({**CLAIMS, "exp": NOW - 30}), "expired"],
    ["without exp", token(without("exp")), "claim"],
    ["not yet", token({**CLAIMS, "nbf": NOW + 31}), "not_yet"],
    ["soon", token({**CLAIMS, "nbf": NOW + 30}), None],
    ["wrong issuer", token({**CLAIMS, "iss": "https://other"}), "claim"],
    ["no issuer", token(without("iss")), "claim"],
    ["wrong audience", token({**CLAIMS, "aud": "other"}), "claim"],
    ["no audience", token(without("aud")), "claim"],
    ["one of its audiences", token({**CLAIMS, "aud": ["other", "events"]}), None],
    ["none of its audiences", token({**CLAIMS, "aud": ["other", "more"]}), "claim"],
    ["typ at+jwt", token(headers={"typ": "at+jwt"}), None],
    ["typ application/at+JWT", token(headers={"typ": "application/at+JWT"}), None],
    ["typ logout+jwt", token(headers={"typ": "logout+jwt"}), "claim"],
    ["wrong key", token(keys=other), "signature"],
    ["wrong key with an unknown kid", token(keys=other, headers={"kid": "elsewhere"}), "unknown_key"],
    ["unknown kid", token(headers={"kid": "elsewhere"}), "unknown_key"],
    ["kid of another key", token(headers={"kid": "p384"}), "signature"],
    ["another algorithm", token(algorithm="ES384"), "algorithm"],
    ["alg none", f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(CLAIMS)}.", "algorithm"],
    ["alg NoNe", f"{part({'alg': 'NoNe'})}.{part(CLAIMS)}.{signature}", "algorithm"],
    ["alg twice", f"{alg_twice}.{body}.{signature}", "malformed"],
    ["embedded jwk", token(headers={"jwk": jwk("p256", private["p256"])}), "malformed"],
    ["jku", token(headers={"jku": "https://other/jwks"}), "malformed"],
    ["x5c", token(headers={"x5c": ["AA"]}), "malformed"],
    ["x5u", token(headers={"x5u": "https://other"}), "malformed"],
    ["crit", token(headers={"crit": ["exp"], "exp": 1}), "malformed"],
    ["tampered claims", f"{head}.{part({**CLAIMS, 'sub': '1'})}.{signature}", "signature"],
    ["tampered signature", f"{head}.{body}.{('A' if signature[0] != 'A' else 'B') + signature[1:]}", "signature"],
    ["no signature", f"{head}.{body}.", "signature"],
    ["two parts", f"{head}.{body}", "malformed"],
    ["five parts", f"{head}.{body}.{signature}.a.b", "malformed"],
    ["padding", f"{head}.{body}.{signature}==", "signature"],
    ["empty", "", "malformed"],
    ["not base64url", f"{head}.{body}+/.{signature}", "signature"],
    ["header is no JSON", f"{part(b'alg')}.{body}.{signature}", "malformed"],
]

# What PyJWT does not sign of itself.
def raw(claims_text, algorithm="ES256"):
    return jwt.api_jws.encode(claims_text, key(algorithm), algorithm=algorithm)
claims += [
    ["exp is a string", raw(json.dumps({**CLAIMS, "exp": "soon"}).encode()), "claim"],
    ["exp is negative", raw(json.dumps({**CLAIMS, "exp": -1}).encode()), "claim"],
    ["exp is huge", raw(json.dumps({**CLAIMS, "exp": 1e300}).encode()), "claim"],
    ["subject is a number", raw(json.dumps({**CLAIMS, "sub": 42}).encode()), None],
    ["subject is an object", raw(json.dumps({**CLAIMS, "sub": {}}).encode()), "claim"],
    ["audience is a number", raw(json.dumps({**CLAIMS, "aud": 1}).encode()), "claim"],
    ["claims are an array", raw(b"[]"), "malformed"],
    ["claims are no JSON", raw(b"sub=42"), "malformed"],
]

# Key confusion: the PEM of a public key as the secret of an HMAC. PyJWT refuses to do that.
signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(CLAIMS)}"
confused = f"{signed}.{part(hmac.new(rsa_public.encode(), signed.encode(), hashlib.sha256).digest())}"

print(json.dumps({
    "now": NOW,
    "secret": SECRET,
    "pem": {name: pem(made) for name, made in private.items()},
    "certificate": certificate(private["p256"]),
    "jwks": {"keys": [jwk(name, made) for name, made in private.items()]},
    "good": good,
    "claims": [{"name": n, "token": t, "refused": r} for n, t, r in claims],
    "confused": confused,
}, indent=1))
