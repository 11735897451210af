// A login of plain PHP with sessions (examples/php/auth): the gateway asks it who may listen, and asks
// again while a stream is open.

import assert from 'node:assert/strict';
import test from 'node:test';

import { eventually, openBrowser, startRedis } from './support.js';
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
