"""Prints tokens of PyJWT, good ones and those of every wrong kind, and signed URLs, as JSON."""

import base64
import hashlib
import hmac
import json
import os

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

given = json.loads(os.environ["GIVEN"])
now, private = given["now"], given["private"]
good = {"sub": "42", "iss": "https://app", "aud": "events", "exp": now + 3600, "channels": given["channels"]}
endless = {name: value for name, value in good.items() if name != "exp"}
keys = {"HS256": given["secret"], "RS256": private["rsa"], "PS256": private["rsa"],
        "ES256": private["ec"], "EdDSA": private["ed"]}
strange_rsa = rsa.generate_private_key(65537, 2048)
strange = {"HS256": "f" * 32, "RS256": strange_rsa, "PS256": strange_rsa,
           "ES256": ec.generate_private_key(ec.SECP256R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}


def base64url(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def by_hand(header, claims, secret):
    """What PyJWT refuses to make: an HMAC with a public key."""
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return signed + "." + base64url(hmac.digest(secret.encode(), signed.encode(), "sha256"))


def kinds(algorithm):
    def token(key=keys[algorithm], headers=None, **claims):
        return jwt.encode({**good, **claims}, key, algorithm, headers)

    head, _, signature = token().split(".")
    payload = base64url(json.dumps({**good, "sub": "43"}).encode())
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(strange[algorithm], as_dict=True)
    public.pop("d", None)
    return {
        "good": token(),
        "another_user": token(sub="43", channels=given["others"]),
        "revoked": token(jti=given["taken_back"]),
        "expired": token(exp=now - 60),
        "not_yet": token(nbf=now + 3600),
        "never_expires": jwt.encode(endless, keys[algorithm], algorithm),
        "wrong_key": token(key=strange[algorithm]),
        "wrong_issuer": token(iss="https://other"),
        "wrong_audience": token(aud=["other"]),
        "tampered": f"{head}.{payload}.{signature}",
        "unsigned": f"{head}.{payload}.",
        "embedded_key": token(key=strange[algorithm], headers={"jwk": public}),
    }


def signed_url(target, host="127.0.0.1", secret=given["url_key"], kid="k1", expires=now + 3600,
               method="GET", algorithm=hashlib.sha256):
    signed = f"{target}{'&' if '?' in target else '?'}exp={expires}&kid={kid}"
    message = f"{method}\n{host}\n{signed}".encode()
    return f"{signed}&sig={base64url(hmac.new(secret.encode(), message, algorithm).digest())}"


def urls(target):
    return {
        "good": signed_url(target),
        "revoked": signed_url(target, kid="k3"),
        "expired": signed_url(target, expires=now - 60),
        "wrong_key": signed_url(target, secret="f" * 32),
        "wrong_issuer": signed_url(target, kid="k2"),
        "wrong_audience": signed_url(target, host="other.example"),
        "tampered": signed_url(target).replace("?", "?a=1&", 1),
        "other_algorithm": signed_url(target, algorithm=hashlib.sha512),
        "another_method": signed_url(target, method="POST"),
    }


print(json.dumps({
    "tokens": {algorithm: kinds(algorithm) for algorithm in keys},
    "forged": {
        "none": jwt.encode(good, None, "none"),
        "other_algorithm": jwt.encode(good, given["secret"] * 2, "HS512"),
        "hs_with_the_secret": jwt.encode(good, given["secret"], "HS384"),
        "confused_rsa": by_hand({"alg": "HS256", "typ": "JWT"}, good, given["public"]["rsa"]),
        "confused_ec": by_hand({"alg": "HS256", "typ": "JWT"}, good, given["public"]["ec"]),
    },
    "urls": {target: urls(target) for target in given["targets"]},
}))
