// The demo page of `ssegate dev`, as somebody sees it who has just started it.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import { ARTIFACTS, directory, eventually, openBrowser, redisCommand, run } from './support.js';

test('the demo page shows what is published, and more than six streams', { timeout: 120_000 }, async (t) => {
  const gateway = await run(t, ['dev'], directory(t));
  const page = await (await openBrowser(t)).newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (line) => { if (line.type() === 'error') errors.push(line.text()); });
  await page.goto(gateway.https);

  const port = Number(gateway.address('bus').split(':').pop());
  const sees = (text) => page.locator('body').innerText().then((body) => body.includes(text));
  await eventually('a published message is shown', async () => {
    await redisCommand(port, 'PUBLISH', 'demo', 'hello from the outside');
    await redisCommand(port, 'PUBLISH', 'news', 'hello from the outside');
    return sees('hello from the outside');
  });

  const box = page.locator('input[type=text], input:not([type]), textarea').first();
  await box.fill('hello from the page');
  await box.press('Enter');
  await eventually('what the page publishes comes back', () => sees('hello from the page'));
  await eventually('more than six streams are open', async () => await gateway.metric('ssegate_streams') > 6);

  mkdirSync(ARTIFACTS, { recursive: true });
  await page.screenshot({ path: join(ARTIFACTS, 'demo.png'), fullPage: true });
  assert.deepEqual(errors, []);
});
