<?php

// Verifies that a request came through the gateway, where clients could also reach PHP directly. Grip-Sig
// is a JSON Web Token (HS256), signed with the key of the route (`handover: { key }`).

function comes_through_ssegate(string $key): bool
{
    $parts = explode('.', $_SERVER['HTTP_GRIP_SIG'] ?? '');
    if (count($parts) !== 3) {
        return false;
    }
    $decode = fn (string $text): string => (string) base64_decode(strtr($text, '-_', '+/'));
    [$head, $claims, $signature] = array_map($decode, $parts);
    $expected = hash_hmac('sha256', "$parts[0].$parts[1]", $key, true);
    return (json_decode($head, true)['alg'] ?? '') === 'HS256'
        && hash_equals($expected, $signature)
        && (json_decode($claims, true)['exp'] ?? 0) > time();
}
