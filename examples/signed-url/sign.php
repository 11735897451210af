<?php
// Signs a URL for a route with auth.signed_url. To try it:
// SECRET=… php sign.php 'https://app.example/events?channel=news' k1 3600

function sign_url(string $url, string $key, string $secret, int $expires, string $method = 'GET'): string
{
    preg_match('~^(https?://([^/?:]+|\[[^]]+\])(?::\d+)?)(/.*)$~i', $url, $parts);
    [, $origin, $host, $path] = $parts;
    $signed = $path . (str_contains($path, '?') ? '&' : '?') . "exp=$expires&kid=$key";
    $tag = hash_hmac('sha256', "$method\n" . strtolower($host) . "\n$signed", $secret, true);
    return "$origin$signed&sig=" . rtrim(strtr(base64_encode($tag), '+/', '-_'), '=');
}

if (realpath($argv[0] ?? '') === __FILE__) {
    echo sign_url($argv[1], $argv[2], getenv('SECRET'), time() + (int) $argv[3]), "\n";
}
