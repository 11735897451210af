#!/usr/bin/env python3
"""Writes keys.json: two sets of keys, as a provider has them before and after a rotation, and tokens signed with
them, made by PyJWT and cryptography, for tests/integration/jwks.rs.

    apt install python3-jwt python3-cryptography && ./mint.py > keys.json
"""

import json

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLAIMS = {"sub": "42", "aud": "events", "iat": 1_750_000_000, "exp": 4_102_444_800}


def key(name):
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
    public |= {"kid": name, "use": "sig", "alg": "RS256"}
    public.pop("key_ops", None)
    token = jwt.encode(CLAIMS, private, "RS256", {"kid": name})
    other = jwt.encode(CLAIMS | {"aud": "other"}, private, "RS256", {"kid": name})
    return {"set": json.dumps({"keys": [public]}), "token": token, "other_audience": other}


print(json.dumps({name: key(name) for name in ["first", "second", "third"]}, indent=1))
