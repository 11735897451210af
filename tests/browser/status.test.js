// The status page, as an operator sees it: live, with and without Redis, in both themes, on a phone, with a keyboard.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:http2';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'node:test';

import {
  ARTIFACTS, directory, eventually, freePort, openBrowser, redisCommand, run, startBackend, startGateway, startRedis,
} from './support.js';

const { source: AXE } = createRequire(import.meta.url)('axe-core');
const NASTY = '<img src=x onerror=alert(1)>';

/** A page with what must not happen on it: errors, refusals of its policy, dialogs. */
async function openStatus(browser, url) {
  const page = await browser.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.message));
  page.on('console', (line) => { if (line.type() === 'error') page.faults.push(line.text()); });
  page.on('dialog', (dialog) => { page.faults.push('a dialog'); dialog.dismiss(); });
  await page.goto(url);
  await eventually('it is live', async () => await page.locator('#feed-text').innerText() === 'Live');
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();
const admin = (gateway) => `http://${gateway.address('admin')}`;

/** What axe finds wrong. Evaluated by the debugger: the policy of the page lets no other script in. */
async function findings(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
}

/** Opens so many streams over HTTP/2. They end with the test. */
async function openMany(t, gateway, count) {
  const perConnection = 100;
  for (let opened = 0; opened < count; opened += perConnection) {
    const session = connect(gateway.https, { rejectUnauthorized: false });
    t.after(() => session.destroy());
    await once(session, 'connect');
    for (let stream = 0; stream < Math.min(perConnection, count - opened); stream += 1) {
      const request = session.request({ ':path': `/events/region-${stream % 12}` });
      request.on('error', () => {});
      request.resume();
    }
  }
  await eventually(`${count} streams are open`, async () => await gateway.metric('ssegate_streams') >= count, 120);
}

test('the page of dev shows what passes, publishes, and takes nothing for HTML', { timeout: 300_000 }, async (t) => {
  const gateway = await run(t, ['dev'], directory(t));
  const browser = await openBrowser(t);
  const page = await openStatus(browser, admin(gateway));
  assert.equal(await text(page, '#verdict'), 'Serving');
  assert.equal(await text(page, '#source-title'), 'Embedded bus');
  await openMany(t, gateway, 200);
  await eventually('the number is shown', async () => await text(page, '#open') === '200');

  await page.fill('#channel', NASTY);
  await page.press('#channel', 'Enter');
  await eventually('it follows', async () => (await text(page, '#follow-state')).startsWith('Following'));
  await page.fill('#data', NASTY);
  await page.press('#data', 'Enter');
  await eventually('what was published passes', async () => await page.locator('#events pre').count() > 0);
  assert.equal(await page.locator('#events pre').first().innerText(), NASTY);
  assert.equal(await page.locator('#events .head b').first().innerText(), 'message');
  assert.match(await text(page, '#events .head'), /id [a-z0-9]+-\d+/);

  const bus = Number(gateway.address('bus').split(':').pop());
  let published = 0;
  let isOver = false;
  const publishing = (async () => {
    for (; !isOver; published += 1) {
      for (let region = 0; region < 12; region += 1) await redisCommand(bus, 'PUBLISH', `region-${region}`, `{"order":${published}}`);
      await redisCommand(bus, 'PUBLISH', NASTY, `${NASTY} ${published}`);
    }
  })();
  const nasty = page.locator('#busiest button', { hasText: NASTY });
  await eventually('ten channels are listed', async () => await page.locator('#busiest tbody tr').count() === 10);
  await eventually('rates are shown', async () => Number((await text(page, '#in')).replace(',', '')) > 0);
  await eventually('latencies are shown', async () => await text(page, '#p99') !== '–');
  assert.ok(await nasty.count() <= 1);

  // With the keyboard alone: a channel of the list is followed.
  const first = page.locator('#busiest button').first();
  await first.focus();
  const channel = await first.innerText();
  await page.keyboard.press('Enter');
  await eventually('that channel is followed', async () => (await text(page, '#follow-state')).includes(channel));
  assert.equal(await page.inputValue('#channel'), channel);
  await page.locator('#stop').focus();
  await page.keyboard.press('Enter');
  await eventually('it has stopped', async () => (await text(page, '#follow-state')).startsWith('Stopped'));
  await eventually('one looks, nobody follows', async () => await gateway.metric('ssegate_status_viewers') === 1);

  await page.fill('#channel', 'ssegate:mark');
  await page.press('#channel', 'Enter');
  await eventually('it says why not', async () => (await text(page, '#follow-state')).includes('ssegate:'));
  // The console's line about that 404 may come after the page has shown it.
  const refused = (fault) => fault.includes('404');
  await eventually('the console has told it', async () => page.faults.some(refused));
  page.faults = page.faults.filter((fault) => !refused(fault));

  mkdirSync(ARTIFACTS, { recursive: true });
  for (const [name, colorScheme, width] of [['light', 'light', 1240], ['dark', 'dark', 1240], ['phone', 'light', 360], ['phone-dark', 'dark', 360]]) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.evaluate(() => new Promise((done) => { requestAnimationFrame(() => requestAnimationFrame(done)); }));
    assert.deepEqual(await findings(page), [], name);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${name} does not scroll sideways`);
    await page.screenshot({ path: join(ARTIFACTS, `status-${name}.png`), fullPage: true });
  }
  assert.deepEqual(page.faults, []);
  isOver = true;
  await publishing;
  await page.close();
  await eventually('nobody looks', async () => await gateway.metric('ssegate_status_viewers') === 0);
});

test('a hidden page costs nothing, and one that lost its gateway says since when', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t);
  const [backend, home, port] = [await startBackend(t), directory(t), await freePort()];
  const start = () => startGateway(t, { redis, backend, home, admin: port });
  let gateway = await start();
  const browser = await openBrowser(t);
  const page = await openStatus(browser, admin(gateway));
  const spoken = await page.evaluate(() => {
    window.spoken = [];
    const heard = () => window.spoken.push(document.getElementById('announcer').textContent);
    new MutationObserver(heard).observe(document.getElementById('announcer'), { childList: true, characterData: true, subtree: true });
    return window.spoken.length;
  });
  assert.equal(spoken, 0);
  assert.equal(await page.locator('#publish').isHidden(), true, 'only dev publishes');

  await redis.restart();
  await eventually('the outage is in the story', async () => await page.locator('#outages tbody tr').count() === 1);
  await eventually('Redis is back', async () => (await text(page, '#source-state')).includes('is connected'));
  assert.ok(await page.evaluate(() => window.spoken.length) <= 6, 'a screen reader is told of changes, not of numbers');

  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { value, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await hide(true);
  await eventually('nobody looks', async () => await gateway.metric('ssegate_status_viewers') === 0);
  assert.match(await text(page, '#feed-text'), /Paused/);
  await hide(false);
  await eventually('it is live again', async () => await text(page, '#feed-text') === 'Live');

  page.faults = [];
  gateway.child.kill('SIGKILL');
  await gateway.child.ended;
  await eventually('it says so', async () => await page.locator('#lost').isVisible());
  const lost = await text(page, '#lost');
  assert.match(lost, /lost since \d\d:\d\d:\d\d/);
  assert.deepEqual(await findings(page), []);
  await page.screenshot({ path: join(ARTIFACTS, 'status-lost.png'), fullPage: true });
  gateway = await start();
  await eventually('it is back', async () => await page.locator('#lost').isHidden(), 60);
  assert.equal(await text(page, '#feed-text'), 'Live');

  // An orderly stop is no surprise.
  gateway.child.kill('SIGTERM');
  await gateway.child.ended;
  await eventually('it says so again', async () => await page.locator('#lost').isVisible());
  assert.deepEqual(page.faults.filter((fault) => !/Failed to load|ERR_/.test(fault)), []);
});

test('the page says what a backend does: errors, silence, and when it was away', { timeout: 300_000 }, async (t) => {
  const held = [];
  let answer = (response) => { response.statusCode = 500; response.end(); };
  const server = createServer((_, response) => answer(response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.close(); server.closeAllConnections(); });
  const backend = `http://127.0.0.1:${server.address().port}`;
  const gateway = await startGateway(t, { redis: await startRedis(t), backend });
  const page = await openStatus(await openBrowser(t), admin(gateway));
  const ask = async (path) => (await fetch(`${gateway.http}${path}`)).status;

  await eventually('errors are a problem', async () => {
    assert.equal(await ask('/x'), 500);
    return await text(page, '#verdict') === 'Serving, with problems';
  });
  assert.match(await text(page, '#problem-list'), /^route \/\{\*rest\}: \d+ of \d+ responses in the last \d+ s were 5xx/);
  assert.match(await text(page, '#requests tbody'), /100%/);

  answer = (response) => held.push(response);
  const asked = Array.from({ length: 12 }, (_, number) => ask(`/${number}`));
  await eventually('silence is told', async () => /up; 12 wait, none was answered for \d+ s/.test(await text(page, '#upstreams tbody')));
  await eventually('many that wait are a problem', async () => (await text(page, '#problem-list')).includes('it hangs: 12 requests wait'));
  // As the clock of the reader has it.
  assert.match(await text(page, '#problem-list'), /since \d\d:\d\d:\d\d/);
  answer = (response) => response.end();
  for (const response of held) response.end();
  assert.deepEqual(await Promise.all(asked), Array(12).fill(200));
  await eventually('all is well', async () => await text(page, '#verdict') === 'Serving');
  assert.match(await text(page, '#failures tbody'), /it hangs/);

  const { port } = server.address();
  server.close();
  server.closeAllConnections();
  assert.equal(await ask('/x'), 502);
  await eventually('it is away', async () => (await text(page, '#upstreams tbody')).includes('cannot connect'));
  server.listen(port, '127.0.0.1');
  await eventually('it is back', async () => /\nup$|\tup$/.test((await text(page, '#upstreams tbody')).trim()));
  assert.match(await text(page, '#failures tbody'), /cannot connect.*; \d+ times/);
  assert.equal(await page.locator('#failures td.bad').count(), 0, 'it is over');
  await page.setViewportSize({ width: 360, height: 800 });
  assert.deepEqual(await findings(page), []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'it does not scroll sideways');
  await page.screenshot({ path: join(ARTIFACTS, 'status-backends.png'), fullPage: true });
  assert.deepEqual(page.faults, []);
});

test('the page says what was recorded, who is known, and which webhooks fail', { timeout: 300_000 }, async (t) => {
  const redis = await startRedis(t);
  const home = directory(t);
  const file = join(home, 'gateway.yaml');
  const token = 'browser-browser-browser-browser-x';
  const away = `http://127.0.0.1:${await freePort()}/occupied`;
  writeFileSync(file, `
listeners: [{ address: "127.0.0.1:0" }, { address: "127.0.0.1:0", tls: { self_signed: true } }]
admin: { address: "127.0.0.1:0" }
redis: { url: "${redis.url}" }
routes:
  - path: /room
    events: { channels: [room], source: recorded }
    auth: { tokens: [{ name: ann, sha256: ${createHash('sha256').update(token).digest('hex')} }] }
    presence: { identify: "{auth.id}", on_occupied: "${away}", key: ${token} }
`);
  const gateway = await run(t, ['run', '-c', file], home);
  const page = await openStatus(await openBrowser(t), admin(gateway));
  const more = () => text(page, '#more');
  assert.doesNotMatch(await more(), /Recorded|Members|Webhooks/, 'nothing of what is not there');
  const leave = new AbortController();
  t.after(() => leave.abort());
  const room = await fetch(`${gateway.http}/room`, { headers: { authorization: `Bearer ${token}` }, signal: leave.signal });
  assert.equal(room.status, 200);
  await eventually('what is published is recorded', async () => {
    await redis.publish('room', 'hello');
    return /Recorded\s+[1-9]\d* entries/.test(await more());
  });
  await eventually('who listens is known', async () => /Members\s+1 known/.test(await more()));
  await eventually('what fails is counted', async () => /Webhooks\s+[1-9]\d* tried again/.test(await more()));
  assert.match(await text(page, '#problem-list'), new RegExp(`^webhook ${away}: .*refused`, 'm'));
  await page.setViewportSize({ width: 360, height: 800 });
  assert.deepEqual(await findings(page), []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'it does not scroll sideways');
  await page.screenshot({ path: join(ARTIFACTS, 'status-recorded.png'), fullPage: true });
});
