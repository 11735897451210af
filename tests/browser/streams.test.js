// A page that listens to Redis Streams misses nothing, whatever is killed behind it.

import assert from 'node:assert/strict';
import test from 'node:test';

import {
  directory, eventually, freePort, openBrowser, startBackend, startGateway, startRedis,
} from './support.js';

test('a list on a page is complete after all restarts', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const backend = await startBackend(t);
  const [home, port] = [directory(t), await freePort()];
  const first = await startGateway(t, { redis, backend, port, home });
  const page = await (await openBrowser(t)).newPage();
  await page.goto(first.https);
  // One that sees events before anything is killed, and one that has seen none.
  await page.evaluate(() => {
    window.lists = { seen: [], unseen: [] };
    window.sources = Object.entries(window.lists).map(([name, list]) => {
      const source = new EventSource(`/kept/${name}`);
      source.onmessage = (event) => list.push(event.data);
      source.addEventListener('gap', (event) => list.push(`gap ${event.data}`));
      return source;
    });
  });
  const lists = () => page.evaluate(() => window.lists);
  const has = (name, text) => eventually(`${text} on the page`,
    async () => (await lists())[name].includes(text));
  const ready = () => eventually('both streams are open', () => page.evaluate(
    () => window.sources.every((source) => source.readyState === EventSource.OPEN)));
  await ready();
  // `ready` gives a page its place before the first event.
  await eventually('both are followed', async () => await first.metric('ssegate_channels') === 2);
  await redis.add('seen', '1');
  await has('seen', '1');

  first.child.kill('SIGKILL');
  await first.child.ended;
  await redis.add('seen', '2');
  await redis.add('unseen', '1');
  const second = await startGateway(t, { redis, backend, port, home });
  await redis.add('seen', '3');
  await has('seen', '3');
  await has('unseen', '1');

  await redis.restart();
  await redis.add('seen', '4');
  await redis.add('unseen', '2');
  await has('seen', '4');
  await has('unseen', '2');

  second.child.kill('SIGTERM');
  await second.child.ended;
  await redis.restart();
  await redis.add('seen', '5');
  await startGateway(t, { redis, backend, port, home });
  await redis.add('unseen', '3');
  await has('seen', '5');
  await has('unseen', '3');
  assert.deepEqual(await lists(), { seen: ['1', '2', '3', '4', '5'], unseen: ['1', '2', '3'] });
});
