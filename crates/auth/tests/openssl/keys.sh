#!/usr/bin/env bash
# Writes keys.json: private keys in every form that openssl writes, each with its public key, for
# tests/mint.rs.
#
#     ./keys.sh > keys.json
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
cd "$directory"

openssl genrsa -out rsa 2048 2>/dev/null
openssl genrsa -out small 1024 2>/dev/null
openssl ecparam -genkey -name prime256v1 -out p256      # EC PARAMETERS, then EC PRIVATE KEY (SEC 1)
openssl ecparam -genkey -name secp384r1 -noout -out p384
openssl ecparam -genkey -name secp521r1 -noout -out p521
openssl genpkey -algorithm ed25519 -out ed25519

text() { python3 -c 'import json, sys; print(json.dumps(sys.stdin.read()), end="")'; }
separator='{'
for name in rsa small p256 p384 p521 ed25519; do
    # The older forms: PKCS#1 and SEC 1. Ed25519 has none.
    old=$(if [[ $name = ed25519 ]]; then cat "$name"; else openssl pkey -in "$name" -traditional; fi | text)
    printf '%s\n "%s": {\n  "public": %s,\n  "forms": [%s,\n    %s,\n    %s]\n }' "$separator" "$name" \
        "$(openssl pkey -in "$name" -pubout | text)" "$(text <"$name")" "$old" "$(openssl pkey -in "$name" | text)"
    separator=,
done
printf ',\n "encrypted": %s\n}\n' "$(openssl pkey -in p256 -aes256 -passout pass:word | text)"
