// The page of examples/php, fed by its scripts, in front of PHP's own web server.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import {
  ARTIFACTS, ROOT, directory, eventually, freePort, openBrowser, run, start, startRedis,
} from './support.js';

test('the page shows what the three scripts publish', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const examples = join(ROOT, 'examples/php');
  const backend = `127.0.0.1:${await freePort()}`;
  start(t, '/usr/bin/php', ['-S', backend, '-t', examples]);
  await eventually('PHP answers', () => fetch(`http://${backend}/`).then((r) => r.ok, () => false));

  // The configuration of the examples, on free ports.
  const home = directory(t);
  const shipped = readFileSync(join(examples, 'gateway.yaml'), 'utf8');
  const onFreePorts = shipped.replace(/127\.0\.0\.1:8443|127\.0\.0\.1:8080/g, '127.0.0.1:0')
    .replaceAll('${REDIS_URL:-embedded://127.0.0.1:6380}', redis.url)
    .replaceAll('${BACKEND_URL:-http://127.0.0.1:8000}', `http://${backend}`);
  writeFileSync(join(home, 'gateway.yaml'), `${onFreePorts}admin: { address: "127.0.0.1:0" }\n`);
  const gateway = await run(t, ['run'], home);

  const page = await (await openBrowser(t)).newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(gateway.https);
  for (const script of ['time.php', 'ping.php', 'record.php']) {
    const env = { ...process.env, REDIS_URL: redis.url, INTERVAL_MS: '200' };
    start(t, '/usr/bin/php', [join(examples, script)], { env });
  }
  const text = (selector) => page.locator(selector).innerText();
  await eventually('the time', async () => (await text('#time')).includes('A random number is'));
  await eventually('a ping', async () => (await text('#ping')).includes('ping at'));
  await eventually('a plain message', async () => (await text('#ping')).includes('This is a message'));
  await eventually('the record', async () => (await text('#temperature')).includes('°C'));

  mkdirSync(ARTIFACTS, { recursive: true });
  await page.screenshot({ path: join(ARTIFACTS, 'php.png'), fullPage: true });
  assert.deepEqual(errors, []);
});
