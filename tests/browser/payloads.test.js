// Row 35 of the fault matrix: payloads of any size and any bytes, through Redis pub/sub and Redis
// Streams, in three clients: npm's eventsource and undici's, which share nothing with the gateway, and
// `ssegate sub`.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import test from 'node:test';

import { EventSource as NpmEventSource } from 'eventsource';
import { EventSource as UndiciEventSource } from 'undici';

import { eventually, GATEWAY, startBackend, startGateway, startRedis } from './support.js';

const PAYLOADS = [
  Buffer.from('x'), Buffer.from(''), Buffer.from('a\nb\n\nc\n'), Buffer.from('a\rb\r\nc'),
  Buffer.from('\ufeffbom \0nul \u0001'), Buffer.from('data: forged\n\nid: 7\nevent: gap'),
  Buffer.from('4 bytes: 😀𝄞, 3: €, 2: ö'), Buffer.from([0x61, 0xff, 0xc3, 0x28, 0xf0, 0x9f, 0x62]),
  Buffer.alloc(64 << 10, 'k'), Buffer.alloc(1 << 20, 'é'), Buffer.alloc(16 << 20, 'y'),
];

/** What a client has to see: text, its line ends all the same. */
const seen = (payload) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(payload)
  .replace(/\r\n|\r/g, '\n');

/** Sends a command with any bytes, and waits for its answer. */
async function send(port, ...words) {
  const socket = connect(port, '127.0.0.1');
  socket.write(`*${words.length}\r\n`);
  for (const word of words.map((any) => Buffer.from(any))) {
    socket.write(`$${word.length}\r\n`);
    socket.write(word);
    socket.write('\r\n');
  }
  await once(socket, 'data');
  socket.destroy();
}

test('row 35: every payload is the same in every client', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const gateway = await startGateway(t, { redis, backend: await startBackend(t) });
  const port = Number(new URL(redis.url).port);
  const lists = [];
  const sources = [];
  t.after(() => sources.forEach((source) => source.close()));
  for (const Client of [NpmEventSource, UndiciEventSource]) {
    for (const path of ['/events/p', '/kept/p']) {
      const source = new Client(gateway.http + path);
      const list = [];
      source.onmessage = (event) => list.push(event.data);
      source.addEventListener('gap', (event) => list.push(`gap ${event.data}`));
      lists.push(list);
      sources.push(source);
    }
  }
  for (const path of ['/events/p', '/kept/p']) {
    const list = [];
    const sub = spawn(GATEWAY, ['sub', '--json', gateway.http + path], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => sub.kill());
    createInterface({ input: sub.stdout, crlfDelay: Infinity }).on('line', (line) => {
      const { event, data } = JSON.parse(line);
      list.push(event === 'gap' ? `gap ${data}` : data);
    });
    lists.push(list);
  }
  await eventually('all are open', () => sources.every((source) => source.readyState === 1));
  await eventually('ssegate sub too', async () => await gateway.metric('ssegate_streams') === 6);
  await eventually('both are followed', async () => await gateway.metric('ssegate_channels') === 2);
  await eventually('it is subscribed', async () => await redis.publish('p', 'first') === ':1');
  await redis.add('p', 'first');
  for (const payload of PAYLOADS) {
    await send(port, 'PUBLISH', 'p', payload);
    await send(port, 'XADD', 'p', '*', 'data', payload);
    // One after the other: together, the largest would not fit into a client's queue.
    const count = PAYLOADS.indexOf(payload) + 2;
    await eventually(`${payload.length} bytes`, () => lists.every((list) => list.length >= count));
  }
  for (const list of lists) {
    assert.equal(list.length, PAYLOADS.length + 1);
    PAYLOADS.forEach((payload, at) => {
      assert.ok(list[at + 1] === seen(payload), `${payload.subarray(0, 20)}`);
    });
  }
});
