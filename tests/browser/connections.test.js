// What the browser's own limits make of the gateway: 6 streams over HTTP/1.1, 256 over HTTP/2.

import assert from 'node:assert/strict';
import test from 'node:test';

import {
  eventually, openBrowser, openCount, openStreams, seenCount, startBackend, startGateway,
  startRedis,
} from './support.js';

async function setUp(t) {
  const redis = await startRedis(t);
  const gateway = await startGateway(t, { redis, backend: await startBackend(t) });
  const browser = await openBrowser(t);
  return { redis, gateway, page: await browser.newPage() };
}

test('over HTTP/1.1 six of twenty streams open', { timeout: 120_000 }, async (t) => {
  const { redis, gateway, page } = await setUp(t);
  await page.goto(gateway.http);
  await openStreams(page, '/events/news', 20);
  await eventually('six streams are open', async () => await openCount(page) >= 6);

  await redis.publish('news', 'hello');
  await eventually('six have it', async () => await seenCount(page, 'hello') >= 6);
  assert.equal(await openCount(page), 6);
  assert.equal(await gateway.metric('ssegate_streams'), 6);

  // The others were waiting for a connection, and for nothing else.
  await page.evaluate(() => window.streams
    .find((stream) => stream.source.readyState === EventSource.OPEN).source.close());
  await eventually('a seventh opens', async () => await gateway.metric('ssegate_streams_opened_total') === 7);
  await eventually('six streams are open', async () => await openCount(page) === 6);
});

test('over HTTP/2 all 256 streams open, and one message reaches all', { timeout: 120_000 }, async (t) => {
  const { redis, gateway, page } = await setUp(t);
  await page.goto(gateway.https);
  await openStreams(page, '/events/news', 256);
  await eventually('256 streams are open', async () => await openCount(page) === 256);
  assert.equal(await gateway.metric('ssegate_streams'), 256);

  assert.equal(await redis.publish('news', 'hello'), ':1', 'one gateway listens');
  await eventually('all 256 have it', async () => await seenCount(page, 'hello') === 256);
  const failures = await page.evaluate(() => window.streams.filter((s) => s.failed > 0).length);
  assert.equal(failures, 0);
});
