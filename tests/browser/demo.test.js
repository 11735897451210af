// The demo page of `ssegate dev`, as somebody sees it who has just started it.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import { ARTIFACTS, directory, eventually, openBrowser, redisCommand, run } from './support.js';

test('the demo page publishes, lists what arrives, and opens more than six streams', { timeout: 120_000 }, async (t) => {
  const gateway = await run(t, ['dev'], directory(t));
  const browser = await openBrowser(t);
  const page = await browser.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (line) => { if (line.type() === 'error') errors.push(line.text()); });
  const text = (selector) => page.locator(selector).innerText();
  await page.goto(gateway.https);
  await eventually('the stream is open', async () => await text('#open') === '1');
  assert.match(await text('#protocol'), /HTTP\/2/);

  const bus = Number(gateway.address('bus').split(':').pop());
  await eventually('the channel is followed', async () => await redisCommand(bus, 'PUBLISH', 'news', 'from a shell') === ':1');
  await eventually('what a shell publishes is listed', async () => (await text('#events')).includes('from a shell'));
  await page.fill('#message', 'from the box of the page');
  await page.press('#message', 'Enter');
  await eventually('what the page publishes comes back', async () => (await text('#events')).includes('from the box'));

  await page.click('#more');
  await eventually('21 streams are open', async () => await text('#open') === '21');
  assert.equal(await gateway.metric('ssegate_streams'), 21);
  await eventually('the last message is shown', async () => {
    await redisCommand(bus, 'PUBLISH', 'news', '{"order":7,"state":"shipped"}');
    return (await text('#events')).includes('shipped');
  });
  mkdirSync(ARTIFACTS, { recursive: true });
  await page.screenshot({ path: join(ARTIFACTS, 'demo.png'), fullPage: true });
  await page.close();
  await eventually('its streams are closed', async () => await gateway.metric('ssegate_streams') === 0);

  // The same over HTTP/1.1: six, and the page says why.
  const old = await browser.newPage();
  await old.goto(gateway.http);
  await old.click('#more');
  await eventually('six are open', async () => await old.locator('#open').innerText() === '6');
  assert.match(await old.locator('#limit').innerText(), /six connections/);
  await old.screenshot({ path: join(ARTIFACTS, 'demo-http1.png'), fullPage: true });
  assert.deepEqual(errors, []);
});
