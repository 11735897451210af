// Signs a URL for a route with auth.signed_url. To try it:
// SECRET=… node sign.js 'https://app.example/events?channel=news' k1 3600

const { createHmac } = require('node:crypto');

function signUrl(url, key, secret, expires, method = 'GET') {
  const [, origin, host, path] = url.match(/^(https?:\/\/([^/?:]+|\[[^\]]+\])(?::\d+)?)(\/.*)$/i);
  const signed = `${path}${path.includes('?') ? '&' : '?'}exp=${expires}&kid=${key}`;
  const hmac = createHmac('sha256', secret).update(`${method}\n${host.toLowerCase()}\n${signed}`);
  return `${origin}${signed}&sig=${hmac.digest('base64url')}`;
}

module.exports = { signUrl };

if (require.main === module) {
  const [, , url, key, seconds] = process.argv;
  console.log(signUrl(url, key, process.env.SECRET, Math.floor(Date.now() / 1000) + Number(seconds)));
}
