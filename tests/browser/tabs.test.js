// Streams that the backend writes itself, and the browser's limit of six connections: in the way
// without the gateway, and not with it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

import { eventually, openBrowser, openCount, openStreams, seenCount, startGateway, startRedis } from './support.js';

/** A backend that writes streams itself, and answers other requests. */
async function startStreamingBackend(t) {
  const streams = new Set();
  const server = createServer((request, response) => {
    if (request.url !== '/stream') {
      response.setHeader('content-type', 'text/html');
      response.end('<!doctype html><title>a page</title>');
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    response.write('data: welcome\n\n');
    streams.add(response);
    response.on('close', () => streams.delete(response));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    open: () => streams.size,
    say: (data) => streams.forEach((stream) => stream.write(`data: ${data}\n\n`)),
  };
}

/** A tab with so many streams. */
async function openTab(browser, origin, streams) {
  const page = await browser.newPage();
  await page.goto(`${origin}/`);
  await openStreams(page, '/stream', streams);
  await eventually('its streams are open', async () => await openCount(page) === streams);
  return page;
}

test('six tabs with a stream each block the seventh request to the backend', { timeout: 120_000 }, async (t) => {
  const backend = await startStreamingBackend(t);
  const browser = await openBrowser(t);
  const seventh = await browser.newPage();
  await seventh.goto(`${backend.origin}/`);
  const tabs = [];
  for (let tab = 0; tab < 6; tab += 1) tabs.push(await openTab(browser, backend.origin, 1));
  assert.equal(backend.open(), 6);

  const request = seventh.evaluate(() => fetch('/page', { cache: 'no-store' }).then((response) => response.status));
  assert.equal(await Promise.race([request, delay(2000, 'blocked')]), 'blocked');
  await tabs[0].close();
  assert.equal(await request, 200, 'it was waiting for a connection, and for nothing else');
});

test('through the gateway 200 streams of the backend and ordinary requests go on together', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const backend = await startStreamingBackend(t);
  const gateway = await startGateway(t, { redis, backend: backend.origin });
  const browser = await openBrowser(t);
  const tabs = [];
  for (let tab = 0; tab < 10; tab += 1) tabs.push(await openTab(browser, gateway.https, 20));
  assert.equal(backend.open(), 200);
  assert.equal(await gateway.metric('ssegate_streams'), 200);

  for (const tab of tabs) {
    const statuses = await tab.evaluate(() => Promise.all(Array.from({ length: 10 }, (_, number) =>
      fetch(`/page?${number}`, { cache: 'no-store' }).then((response) => response.status))));
    assert.deepEqual(statuses, Array(10).fill(200));
  }
  backend.say('hello');
  for (const tab of tabs) await eventually('all 20 have it', async () => await seenCount(tab, 'hello') === 20);
  const failed = await Promise.all(tabs.map((tab) => tab.evaluate(
    () => window.streams.filter((stream) => stream.failed > 0).length,
  )));
  assert.deepEqual(failed, Array(10).fill(0));
});
