// A WebSocket of a page goes through the gateway to its backend: text and bytes, small and large.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import test from 'node:test';

import { eventually, openBrowser, startGateway, startRedis } from './support.js';

/** A backend with a page, and a WebSocket (RFC 6455) that echoes messages. */
async function startEcho(t) {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><title>a page</title>');
  });
  server.upgrades = [];
  server.on('upgrade', (request, socket) => {
    server.upgrades.push(request);
    socket.on('error', () => {});
    const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + guid);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
      + `Sec-WebSocket-Accept: ${accept.digest('base64')}\r\nSec-WebSocket-Protocol: chat\r\n\r\n`);
    let seen = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      seen = Buffer.concat([seen, bytes]);
      for (let frame = cut(seen); frame; frame = cut(seen)) {
        seen = seen.subarray(frame.length);
        socket.write(Buffer.concat([head(frame.first, frame.payload.length), frame.payload]));
        if ((frame.first & 15) === 8) socket.end();
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

/** The first frame of a client, unmasked; nothing while it is not complete. */
function cut(bytes) {
  if (bytes.length < 2) return undefined;
  let [at, size] = [2, bytes[1] & 127];
  const more = { 126: 2, 127: 8 }[size] ?? 0;
  if (bytes.length < at + more + 4) return undefined;
  if (more === 2) size = bytes.readUInt16BE(at);
  if (more === 8) size = Number(bytes.readBigUInt64BE(at));
  at += more;
  const mask = bytes.subarray(at, at + 4);
  at += 4;
  if (bytes.length < at + size) return undefined;
  const payload = Buffer.from(bytes.subarray(at, at + size)).map((byte, n) => byte ^ mask[n % 4]);
  return { first: bytes[0], payload, length: at + size };
}

/** The head of a frame of a server. */
function head(first, size) {
  if (size < 126) return Buffer.from([first, size]);
  const bytes = Buffer.alloc(size < 65536 ? 4 : 10);
  bytes[0] = first;
  bytes[1] = size < 65536 ? 126 : 127;
  if (size < 65536) bytes.writeUInt16BE(size, 2);
  else bytes.writeBigUInt64BE(BigInt(size), 2);
  return bytes;
}

/** Sends messages over a WebSocket of the page, and gives what comes back. */
const echoes = (page, origin) => page.evaluate(async (base) => {
  const socket = new WebSocket(`${base.replace('http', 'ws')}/chat?room=1`, 'chat');
  socket.binaryType = 'arraybuffer';
  const events = [];
  let wake = () => {};
  for (const name of ['open', 'message', 'close', 'error']) {
    socket.addEventListener(name, (event) => { events.push(event); wake(); });
  }
  const next = async () => {
    while (events.length === 0) await new Promise((resolve) => { wake = resolve; });
    return events.shift();
  };
  if ((await next()).type !== 'open') throw new Error('it does not open');
  const said = ['a', 'gr\u00fc\u00df dich', 'x'.repeat(300_000), new Uint8Array([0, 1, 255]).buffer];
  for (const text of said) socket.send(text);
  const heard = [];
  for (const text of said) {
    const { data } = await next();
    heard.push(typeof data === 'string'
      ? data === text
      : new Uint8Array(data).join() === new Uint8Array(text).join());
  }
  socket.close(1000, 'done');
  const { code, reason, wasClean } = await next();
  return { heard, protocol: socket.protocol, code, reason, wasClean };
}, origin);

test('a page speaks with its backend over a WebSocket', { timeout: 120_000 }, async (t) => {
  const redis = await startRedis(t);
  const { server, url } = await startEcho(t);
  const gateway = await startGateway(t, { redis, backend: url });
  const page = await (await openBrowser(t)).newPage();
  for (const origin of [gateway.https, gateway.http]) {
    await page.goto(origin);
    assert.deepEqual(await echoes(page, origin), {
      heard: [true, true, true, true], protocol: 'chat', code: 1000, reason: 'done', wasClean: true,
    });
    if (origin === gateway.https) {
      const open = (protocol) => gateway.metric('ssegate_connections', `protocol="${protocol}"`);
      assert.equal(await open('h1'), 0, 'the WebSocket is a stream of the connection over HTTP/2');
      assert.equal(await open('h2'), 1);
    }
    const { headers, url: target } = server.upgrades.at(-1);
    assert.equal(target, '/chat?room=1');
    assert.equal(headers.origin, origin);
    assert.equal(`${headers['x-forwarded-proto']}://${headers.host}`, origin);
  }
  await eventually('no tunnel is left', async () => await gateway.metric('ssegate_tunnels') === 0);
});
