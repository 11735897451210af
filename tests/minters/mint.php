<?php
// Prints tokens of PHP's own functions, good ones and those of every wrong kind, and signed URLs, as JSON.
// openssl_sign has no PSS, so PS256 is not among them.
declare(strict_types=1);

$given = json_decode(getenv('GIVEN'), true);
$now = $given['now'];
$good = ['sub' => '42', 'iss' => 'https://app', 'aud' => 'events', 'exp' => $now + 3600, 'channels' => $given['channels']];

function base64url(string $bytes): string
{
    return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
}

/** The two numbers of an ECDSA signature in DER, each of 32 bytes (RFC 7518, section 3.4). */
function raw_signature(string $der): string
{
    $at = 2;
    $numbers = '';
    for ($i = 0; $i < 2; $i++) {
        $length = ord($der[$at + 1]);
        $number = ltrim(substr($der, $at + 2, $length), "\0");
        $numbers .= str_pad($number, 32, "\0", STR_PAD_LEFT);
        $at += 2 + $length;
    }
    return $numbers;
}

/** The key pair of an Ed25519 key in PKCS #8, whose last 32 bytes are its seed. */
function ed25519(string $pem): string
{
    $der = base64_decode(implode('', array_slice(explode("\n", trim($pem)), 1, -1)));
    return sodium_crypto_sign_secretkey(sodium_crypto_sign_seed_keypair(substr($der, -32)));
}

function sign(string $algorithm, string $signed, mixed $key): string
{
    switch ($algorithm) {
        case 'none':
            return '';
        case 'HS256':
        case 'HS384':
        case 'HS512':
            return hash_hmac('sha' . substr($algorithm, 2), $signed, $key, true);
        case 'EdDSA':
            return sodium_crypto_sign_detached($signed, $key);
        default:
            openssl_sign($signed, $signature, $key, OPENSSL_ALGO_SHA256);
            return $algorithm === 'ES256' ? raw_signature($signature) : $signature;
    }
}

function token(string $algorithm, mixed $key, array $claims, array $header = []): string
{
    $parts = [['alg' => $algorithm, 'typ' => 'JWT'] + $header, $claims];
    $signed = implode('.', array_map(fn ($part) => base64url(json_encode($part)), $parts));
    return $signed . '.' . base64url(sign($algorithm, $signed, $key));
}

$keys = [
    'HS256' => $given['secret'],
    'RS256' => $given['private']['rsa'],
    'ES256' => $given['private']['ec'],
    'EdDSA' => ed25519($given['private']['ed']),
];
$strange = [
    'HS256' => str_repeat('f', 32),
    'RS256' => openssl_pkey_new(['private_key_bits' => 2048]),
    'ES256' => openssl_pkey_new(['private_key_type' => OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1']),
    'EdDSA' => sodium_crypto_sign_secretkey(sodium_crypto_sign_keypair()),
];

/** The public half as a JSON Web Key. */
function jwk(string $algorithm, mixed $key): array
{
    switch ($algorithm) {
        case 'HS256':
            return ['kty' => 'oct', 'k' => base64url($key)];
        case 'EdDSA':
            $public = sodium_crypto_sign_publickey_from_secretkey($key);
            return ['kty' => 'OKP', 'crv' => 'Ed25519', 'x' => base64url($public)];
        case 'RS256':
            $rsa = openssl_pkey_get_details($key)['rsa'];
            return ['kty' => 'RSA', 'n' => base64url($rsa['n']), 'e' => base64url($rsa['e'])];
        default:
            $ec = openssl_pkey_get_details($key)['ec'];
            return ['kty' => 'EC', 'crv' => 'P-256', 'x' => base64url($ec['x']), 'y' => base64url($ec['y'])];
    }
}

$tokens = [];
foreach ($keys as $algorithm => $key) {
    $make = fn (array $claims) => token($algorithm, $key, $claims + $good);
    [$head, , $signature] = explode('.', $make([]));
    $payload = base64url(json_encode(['sub' => '43'] + $good));
    $tokens[$algorithm] = [
        'good' => $make([]),
        'another_user' => $make(['sub' => '43', 'channels' => $given['others']]),
        'revoked' => $make(['jti' => $given['taken_back']]),
        'expired' => $make(['exp' => $now - 60]),
        'not_yet' => $make(['nbf' => $now + 3600]),
        'never_expires' => token($algorithm, $key, array_diff_key($good, ['exp' => 0])),
        'wrong_key' => token($algorithm, $strange[$algorithm], $good),
        'wrong_issuer' => $make(['iss' => 'https://other']),
        'wrong_audience' => $make(['aud' => ['other']]),
        'tampered' => "$head.$payload.$signature",
        'unsigned' => "$head.$payload.",
        'embedded_key' => token($algorithm, $strange[$algorithm], $good, ['jwk' => jwk($algorithm, $strange[$algorithm])]),
    ];
}

function signed_url(
    string $target,
    string $host = '127.0.0.1',
    ?string $key = null,
    string $kid = 'k1',
    ?int $expires = null,
    string $method = 'GET',
    string $hash = 'sha256',
): string {
    global $given, $now;
    $expires ??= $now + 3600;
    $signed = $target . (str_contains($target, '?') ? '&' : '?') . "exp=$expires&kid=$kid";
    $mac = hash_hmac($hash, "$method\n$host\n$signed", $key ?? $given['url_key'], true);
    return "$signed&sig=" . base64url($mac);
}

$urls = [];
foreach ($given['targets'] as $target) {
    $urls[$target] = [
        'good' => signed_url($target),
        'revoked' => signed_url($target, kid: 'k3'),
        'expired' => signed_url($target, expires: $now - 60),
        'wrong_key' => signed_url($target, key: str_repeat('f', 32)),
        'wrong_issuer' => signed_url($target, kid: 'k2'),
        'wrong_audience' => signed_url($target, host: 'other.example'),
        'tampered' => implode('?a=1&', explode('?', signed_url($target), 2)),
        'other_algorithm' => signed_url($target, hash: 'sha512'),
        'another_method' => signed_url($target, method: 'POST'),
    ];
}

echo json_encode([
    'tokens' => $tokens,
    'forged' => [
        'none' => token('none', null, $good),
        'other_algorithm' => token('HS512', str_repeat($given['secret'], 2), $good),
        'hs_with_the_secret' => token('HS384', $given['secret'], $good),
        'confused_rsa' => token('HS256', $given['public']['rsa'], $good),
        'confused_ec' => token('HS256', $given['public']['ec'], $good),
    ],
    'urls' => $urls,
], JSON_UNESCAPED_SLASHES), "\n";
