// A login, a private channel for each user, and a refused visitor (examples/php/handover): PHP
// decides who listens, and holds nobody.

import assert from 'node:assert/strict';
import test from 'node:test';

import { eventually, openBrowser, startRedis } from './support.js';
import { startExampleGateway, startNginx } from './php.js';

const text = (page, selector) => page.locator(selector).innerText();

async function logIn(browser, origin, user) {
  const page = await browser.newPage();
  await page.goto(`${origin}/handover/`);
  await page.fill('input[name=user]', user);
  await page.click('text=Log in');
  await eventually(`${user} is logged in`, async () => await page.locator('#user').count() === 1);
  assert.equal(await text(page, '#user'), user);
  await eventually(`the stream of ${user} is open`, async () => await text(page, '#state') === 'open');
  return page;
}

test('each user hears what is meant for that user, and who is not logged in is refused', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  // Far fewer workers than streams: none of them is held.
  const [backend] = await startNginx(t, { workers: 2, env: { REDIS_URL: redis.url } });
  const gateway = await startExampleGateway(t, { backend, redis });
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => openBrowser(t)));
  const anna = await logIn(first, gateway.https, 'anna');
  const bob = await logIn(second, gateway.https, 'bob');

  const stranger = await third.newPage();
  await stranger.goto(`${gateway.https}/handover/`);
  await eventually('the stranger is refused', async () => await text(stranger, '#state') === 'refused');
  assert.equal(await gateway.metric('ssegate_streams'), 2);

  await anna.fill('input[name=to]', 'bob');
  await anna.fill('input[name=text]', 'hello, Bob');
  await anna.click('text=Send');
  await eventually('Bob has it', async () => (await text(bob, '#messages')).includes('anna: hello, Bob'));
  await bob.fill('input[name=to]', 'anna');
  await bob.fill('input[name=text]', 'hello, Anna');
  await bob.click('text=Send');
  await eventually('Anna has it', async () => (await text(anna, '#messages')).includes('bob: hello, Anna'));
  assert.doesNotMatch(await text(anna, '#messages'), /hello, Bob/, 'it was meant for Bob alone');
  assert.doesNotMatch(await text(bob, '#messages'), /hello, Anna/);

  // Ten more streams of one user, in front of two workers, and an ordinary page still comes.
  await anna.evaluate(() => Promise.all(Array.from({ length: 10 }, () => new Promise((resolve) => {
    new EventSource('stream.php').onopen = resolve;
  }))));
  assert.equal(await anna.evaluate(() => fetch('./').then((response) => response.status)), 200);
});

test('who logs out hears no more once the stream has come back', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const [backend] = await startNginx(t, { workers: 2, env: { REDIS_URL: redis.url } });
  const handover = '      retry: 500ms\n';
  const gateway = await startExampleGateway(t, { backend, redis, handover, maxStreamAge: '2s' });
  const browser = await openBrowser(t);
  const page = await logIn(browser, gateway.https, 'anna');

  // It ends, comes back, and has missed nothing; again and again, while PHP says yes.
  await eventually('the stream has come back', async () => await gateway.metric('ssegate_streams_opened_total') >= 2);
  for (const number of [1, 2, 3]) {
    await redis.publish('user:anna', `{"from": "redis", "text": "number ${number}"}`);
    await eventually(`number ${number}`, async () => (await text(page, '#messages')).includes(`number ${number}`));
  }

  // In another tab.
  const other = await browser.newPage();
  await other.goto(`${gateway.https}/handover/`);
  await other.click('text=Log out');
  await eventually('PHP says no', async () => await text(page, '#state') === 'refused');
  await eventually('nobody listens', async () => await gateway.metric('ssegate_streams') === 0);
});
