// Prints tokens of jose, good ones and those of every wrong kind, and signed URLs, as JSON.
import { createHmac, createPrivateKey } from 'node:crypto'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const { resolve } = createRequire(`${process.env.MODULES}/`)
const jose = await import(pathToFileURL(resolve('jose')))
const given = JSON.parse(process.env.GIVEN)
const { now } = given
const good = { sub: '42', iss: 'https://app', aud: 'events', exp: now + 3600, channels: given.channels }
const secret = text => new TextEncoder().encode(text)
const { rsa, ec, ed } = Object.fromEntries(
  Object.entries(given.private).map(([name, pem]) => [name, createPrivateKey(pem)]))
const keys = { HS256: secret(given.secret), RS256: rsa, PS256: rsa, ES256: ec, EdDSA: ed }
const base64url = value => Buffer.from(JSON.stringify(value)).toString('base64url')

function token(claims, key, header) {
  return new jose.SignJWT({ ...good, ...claims }).setProtectedHeader({ typ: 'JWT', ...header }).sign(key)
}

async function kinds(alg) {
  const strange = alg === 'HS256'
    ? { privateKey: secret('f'.repeat(32)), publicKey: secret('f'.repeat(32)) }
    : await jose.generateKeyPair(alg, { extractable: true })
  const sign = claims => token(claims, keys[alg], { alg })
  const right = await sign({})
  const [head, , signature] = right.split('.')
  const payload = base64url({ ...good, sub: '43' })
  const jwk = await jose.exportJWK(strange.publicKey)
  return {
    good: right,
    another_user: await sign({ sub: '43', channels: given.others }),
    revoked: await sign({ jti: given.taken_back }),
    expired: await sign({ exp: now - 60 }),
    not_yet: await sign({ nbf: now + 3600 }),
    never_expires: await sign({ exp: undefined }),
    wrong_key: await token({}, strange.privateKey, { alg }),
    wrong_issuer: await sign({ iss: 'https://other' }),
    wrong_audience: await sign({ aud: ['other'] }),
    tampered: `${head}.${payload}.${signature}`,
    unsigned: `${head}.${payload}.`,
    embedded_key: await token({}, strange.privateKey, { alg, jwk }),
  }
}

function signedUrl(target, { host = '127.0.0.1', key = given.url_key, kid = 'k1', expires = now + 3600,
  method = 'GET', hash = 'sha256' } = {}) {
  const signed = `${target}${target.includes('?') ? '&' : '?'}exp=${expires}&kid=${kid}`
  const mac = createHmac(hash, key).update(`${method}\n${host}\n${signed}`)
  return `${signed}&sig=${mac.digest('base64url')}`
}

const urls = target => ({
  good: signedUrl(target),
  revoked: signedUrl(target, { kid: 'k3' }),
  expired: signedUrl(target, { expires: now - 60 }),
  wrong_key: signedUrl(target, { key: 'f'.repeat(32) }),
  wrong_issuer: signedUrl(target, { kid: 'k2' }),
  wrong_audience: signedUrl(target, { host: 'other.example' }),
  tampered: signedUrl(target).replace('?', '?a=1&'),
  other_algorithm: signedUrl(target, { hash: 'sha512' }),
  another_method: signedUrl(target, { method: 'POST' }),
})

const tokens = {}
for (const alg of Object.keys(keys)) tokens[alg] = await kinds(alg)
console.log(JSON.stringify({
  tokens,
  forged: {
    none: new jose.UnsecuredJWT(good).encode(),
    other_algorithm: await token({}, secret(given.secret.repeat(2)), { alg: 'HS512' }),
    hs_with_the_secret: await token({}, secret(given.secret), { alg: 'HS384' })
      .catch(() => token({}, secret(given.secret + '0123456789abcdef'), { alg: 'HS384' })),
    confused_rsa: await token({}, secret(given.public.rsa), { alg: 'HS256' }),
    confused_ec: await token({}, secret(given.public.ec), { alg: 'HS256' }),
  },
  urls: Object.fromEntries(given.targets.map(target => [target, urls(target)])),
}))
