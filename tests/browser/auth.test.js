// A login of plain PHP with sessions (examples/php/auth): the gateway asks it who may listen, and asks
// again while a stream is open.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import test from 'node:test';
import { promisify } from 'node:util';

import { GATEWAY, eventually, openBrowser, startRedis } from './support.js';
import { startExampleGateway, startNginx } from './php.js';

const text = (page, selector) => page.locator(selector).innerText();
const state = (page, expected) => eventually(`the stream is ${expected}`, async () => await text(page, '#state') === expected);

async function logIn(browser, origin, user) {
  const page = await browser.newPage();
  await page.goto(`${origin}/auth/`);
  await page.fill('input[name=user]', user);
  await page.click('text=Log in');
  await eventually(`${user} is logged in`, async () => await page.locator('#user').count() === 1);
  await state(page, 'open');
  return page;
}

test('PHP sessions decide who hears what, and a logout ends the stream', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const [backend] = await startNginx(t, { workers: 2 });
  // Two gateways on one Redis, in front of the same PHP.
  const first = await startExampleGateway(t, { backend, redis });
  const second = await startExampleGateway(t, { backend, redis });
  const [anna, bob, stranger] = await Promise.all([
    openBrowser(t).then((browser) => logIn(browser, first.https, 'anna')),
    openBrowser(t).then((browser) => logIn(browser, second.https, 'bob')),
    openBrowser(t).then((browser) => browser.newPage()),
  ]);
  await stranger.goto(`${first.https}/auth/`);
  await state(stranger, 'refused');

  await redis.publish('user:anna', 'for Anna');
  await redis.publish('user:bob', 'for Bob');
  await eventually('Anna has it', async () => (await text(anna, '#messages')).includes('for Anna'));
  await eventually('Bob has it', async () => (await text(bob, '#messages')).includes('for Bob'));
  assert.doesNotMatch(await text(anna, '#messages'), /for Bob/);
  assert.doesNotMatch(await text(bob, '#messages'), /for Anna/);

  // In another tab. The first tab's stream ends at its next recheck, and its return is refused for good.
  const other = await anna.context().newPage();
  await other.goto(`${first.https}/auth/`);
  await other.click('text=Log out');
  await state(anna, 'refused');
  await eventually('the gateway has ended it', async () => await first.metric('ssegate_streams_closed_total', 'revoked') >= 1);
  assert.equal(await text(bob, '#state'), 'open');
  await redis.publish('user:bob', 'still for Bob');
  await eventually('Bob has it', async () => (await text(bob, '#messages')).includes('still for Bob'));
});

/** Notes when the page's stream next ends, and whether for good. */
const watch = (page) => page.evaluate(() => {
  window.ended = new Promise((resolve) => {
    const note = () => resolve({ at: Date.now(), forGood: stream.readyState === EventSource.CLOSED });
    stream.addEventListener('error', note, { once: true });
  });
});

/** `ssegate revoke` with the configuration of a gateway. The streams of `pages` end; tells how. */
async function revoke(gateway, pages, ...words) {
  await Promise.all(pages.map(watch));
  const begin = Date.now();
  const { stdout } = await promisify(execFile)(GATEWAY, ['revoke', ...words], { cwd: gateway.home });
  assert.equal(stdout.trim(), '2 gateways');
  const ends = await Promise.all(pages.map((page) => page.evaluate(() => window.ended)));
  // A second is promised; the machine may be busy.
  for (const { at } of ends) assert.ok(at - begin < 5000, `after ${at - begin} ms`);
  return ends;
}

test('a revocation ends the streams of a user on both gateways', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const [backend] = await startNginx(t, { workers: 2 });
  // Without a recheck: nothing else would end them.
  const settings = 'revocation: { control_channel: "ssegate:revoke", key: "a control key of 32 bytes or more" }\n';
  const start = () => startExampleGateway(t, { backend, redis, settings, recheck: '1h' });
  const gateways = [await start(), await start()];
  const [first, second, bob] = await Promise.all([
    openBrowser(t).then((browser) => logIn(browser, gateways[0].https, 'anna')),
    openBrowser(t).then((browser) => logIn(browser, gateways[1].https, 'anna')),
    openBrowser(t).then((browser) => logIn(browser, gateways[1].https, 'bob')),
  ]);
  const hasAll = (page, message) => eventually(`${message} is there`, async () => (await text(page, '#messages')).includes(message));

  // PHP still knows her, is asked anew, and lets her in again.
  for (const { forGood } of await revoke(gateways[0], [first, second], '--sub', 'anna')) assert.equal(forGood, false);
  for (const page of [first, second]) await state(page, 'open');
  await redis.publish('user:anna', 'again for Anna');
  for (const page of [first, second]) await hasAll(page, 'again for Anna');

  // Whoever is blocked is refused, whatever PHP says: for good.
  await revoke(gateways[1], [first, second], '--sub', 'anna', '--block');
  for (const page of [first, second]) await state(page, 'refused');
  for (const gateway of gateways) {
    await eventually('it is counted', async () => await gateway.metric('ssegate_streams_closed_total', 'revoked') >= 2);
  }
  assert.equal(await text(bob, '#state'), 'open');
  await redis.publish('user:bob', 'still for Bob');
  await hasAll(bob, 'still for Bob');
});
