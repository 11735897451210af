// A real identity provider (npm's oidc-provider): a login in Chromium, its ID token in a cookie, its keys from
// its JWKS URL, which rotate, and a logout that revokes.

import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import Provider from 'oidc-provider';

import { directory, eventually, freePort, openBrowser, run, startRedis } from './support.js';

const SECRET = randomBytes(32).toString('hex');

/** A signing key of its own, as a private JSON Web Key. */
function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomBytes(6).toString('hex'), use: 'sig', alg: 'RS256' };
}

/** The provider, with a login page that takes any name. `rotate` makes it sign with a new key; it publishes the
 *  old one, too, as long as tokens count that were signed with it. */
async function startProvider(t, port, redirect) {
  const keys = [];
  let server;
  const begin = async () => {
    keys.unshift(newKey());
    const provider = new Provider(`http://127.0.0.1:${port}`, {
      clients: [{ client_id: 'app', client_secret: SECRET, redirect_uris: [redirect] }],
      jwks: { keys },
      cookies: { keys: [SECRET] },
    });
    server = createServer(provider.callback()).listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  const end = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  await begin();
  t.after(end);
  return { async rotate() { await end(); await begin(); } };
}

/** The application: logs in at the provider, keeps the ID token in a cookie, and revokes at the logout. */
async function startApp(t, issuer) {
  const app = { origin: '', admin: '' };
  const verifiers = new Map();
  const page = `<!doctype html><meta charset="utf-8"><title>app</title>
<p>The stream is <b id="state">not open</b>.</p><ol id="messages"></ol><a href="/login">Log in</a> <a href="/logout">Log out</a>
<script>
const stream = new EventSource('/mine');
const state = document.getElementById('state');
stream.onopen = () => { state.textContent = 'open'; };
stream.onerror = () => { state.textContent = stream.readyState === EventSource.CLOSED ? 'refused' : 'reconnecting'; };
stream.onmessage = (event) => { document.getElementById('messages').append(Object.assign(document.createElement('li'), { textContent: event.data })); };
</script>`;
  const to = (response, location, cookie) => {
    if (cookie !== undefined) response.setHeader('set-cookie', `token=${cookie}; Path=/; HttpOnly; Secure; SameSite=Lax`);
    response.writeHead(303, { location }).end();
  };
  const routes = {
    '/': (request, response) => response.setHeader('content-type', 'text/html').end(page),
    '/login': (request, response) => {
      const [state, verifier] = [randomBytes(8).toString('hex'), randomBytes(32).toString('hex')];
      verifiers.set(state, verifier);
      to(response, `${issuer}/auth?${new URLSearchParams({
        client_id: 'app', response_type: 'code', scope: 'openid', redirect_uri: `${app.origin}/callback`, state,
        code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256',
      })}`);
    },
    '/callback': async (request, response) => {
      const query = new URL(request.url, app.origin).searchParams;
      const answer = await fetch(`${issuer}/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${Buffer.from(`app:${SECRET}`).toString('base64')}` },
        body: new URLSearchParams({
          grant_type: 'authorization_code', code: query.get('code'), redirect_uri: `${app.origin}/callback`,
          code_verifier: verifiers.get(query.get('state')),
        }),
      });
      const { id_token: token } = await answer.json();
      to(response, '/', token);
    },
    '/logout': async (request, response) => {
      const sub = request.headers['x-user'];
      const revoked = await fetch(`http://${app.admin}/revoke`, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ sub }),
      });
      assert.equal(revoked.status, 200);
      to(response, '/', '');
    },
  };
  const server = createServer((request, response) => {
    const route = routes[new URL(request.url, 'http://app').pathname];
    Promise.resolve(route ? route(request, response) : response.writeHead(404).end()).catch((error) => {
      response.writeHead(500).end(String(error));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.close(); server.closeAllConnections(); });
  app.address = `http://127.0.0.1:${server.address().port}`;
  return app;
}

const text = (page, selector) => page.locator(selector).innerText();
const state = (page, expected) => eventually(`the stream is ${expected}`, async () => await text(page, '#state') === expected);

async function logIn(page, origin, user) {
  await page.goto(`${origin}/login`);
  if (await page.locator('input[name=login]').count() > 0) {
    await page.fill('input[name=login]', user);
    await page.fill('input[name=password]', 'any');
    await page.click('button[type=submit]');
  }
  if (await page.locator('button:has-text("Continue")').count() > 0) await page.click('button:has-text("Continue")');
  await page.waitForURL(`${origin}/`);
}

test('an identity provider says who may listen, its keys rotate, and a logout revokes', { timeout: 120_000 }, async (t) => {
  const [redis, home, port] = [await startRedis(t), directory(t), await freePort()];
  const issuer = `http://127.0.0.1:${port}`;
  const app = await startApp(t, issuer);
  writeFileSync(join(home, 'gateway.yaml'), `
listeners: [{ address: "127.0.0.1:0", tls: { self_signed: true } }, { address: "127.0.0.1:0" }]
admin: { address: "127.0.0.1:0" }
redis: { url: "${redis.url}" }
sse: { retry: 500ms }
revocation: { control_channel: "ssegate:revoke", key: "${SECRET}" }
auth:
  jwt: { jwks: "${issuer}/jwks", algorithms: RS256, issuer: "${issuer}", audience: app, from: "cookie:token" }
routes:
  - { path: /mine, events: { channels: ["user:{auth.id}"] } }
  - { path: /logout, proxy: { upstream: "${app.address}", pass: { x-user: "{auth.id}" } } }
  - { path: "/{*rest}", proxy: { upstream: "${app.address}" }, auth: off }
`);
  const gateway = await run(t, ['run'], home);
  [app.origin, app.admin] = [gateway.https, gateway.address('admin')];
  const provider = await startProvider(t, port, `${app.origin}/callback`);

  const browser = await openBrowser(t);
  const page = await browser.newPage();
  await page.goto(`${app.origin}/`);
  await state(page, 'refused');

  await logIn(page, app.origin, 'anna');
  await state(page, 'open');
  await redis.publish('user:bob', 'for Bob');
  await redis.publish('user:anna', 'for Anna');
  await eventually('Anna has it', async () => (await text(page, '#messages')).includes('for Anna'));
  assert.doesNotMatch(await text(page, '#messages'), /for Bob/);

  // Other keys, and a login with a token that is signed with one of them; open streams stay.
  await provider.rotate();
  const second = await (await openBrowser(t)).newPage();
  await logIn(second, app.origin, 'bob');
  await state(second, 'open');
  assert.equal(await text(page, '#state'), 'open');

  // In another tab: the stream of the first ends, and its token counts no more.
  const other = await browser.newPage();
  await other.goto(`${app.origin}/logout`);
  await state(page, 'refused');
  await eventually('it was revoked', async () => await gateway.metric('ssegate_streams_closed_total', 'revoked') >= 1);
  assert.equal(await text(second, '#state'), 'open', 'nobody else was');
});
