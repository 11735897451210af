// What the browser tests stand on: a gateway, a real Redis, and Debian's Chromium.
// Every process runs on loopback, and is ended by whoever started it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { chromium } from 'playwright-core';

/** The top of the repository. */
export const ROOT = resolve(import.meta.dirname, '../..');
export const GATEWAY = process.env.SSEGATE_BIN ?? join(ROOT, 'target/debug/ssegate');
export const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';

/** Where what is to be looked at is put. */
export const ARTIFACTS = join(ROOT, 'target/browser');

/** Asks again and again until the answer is yes. A check that never returns is a no, too. */
export async function eventually(what, check, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  while (!(await within(end - Date.now(), what, check()))) {
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await delay(50);
  }
}

/** What `promise` gives, or an error if that takes longer. */
export async function within(milliseconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within its time: ${what}`)), Math.max(milliseconds, 0));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const cleanUps = new WeakMap();

/** What is done when the test is over: the last first, so that no directory goes before its user. */
function atEnd(test, cleanUp) {
  if (!cleanUps.has(test)) {
    cleanUps.set(test, []);
    test.after(async () => {
      for (const next of cleanUps.get(test).reverse()) await next();
    });
  }
  cleanUps.get(test).push(cleanUp);
}

/** A directory that is gone when the test is over. */
export function directory(test) {
  const path = mkdtempSync(join(tmpdir(), 'ssegate-browser-'));
  // Helpers of Chromium may outlive it by a moment, and still write. `maxRetries` would wait for an empty directory
  // without emptying it again, longer each time, and hold the whole process meanwhile.
  atEnd(test, () => eventually(`${path} is removed`, () => {
    try {
      rmSync(path, { recursive: true, force: true });
      return true;
    } catch (error) {
      if (error.code !== 'ENOTEMPTY') throw error;
      return false;
    }
  }, 10));
  return path;
}

/** A port that nobody listens on. */
export async function freePort() {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts a program; it dies with the tests, and at the end of `test` at the latest. One that has
 *  processes of its own is ended with `endSignal: 'SIGTERM'`, so that it can end them, within 10 seconds. */
export function start(test, program, args, { endSignal = 'SIGKILL', ...options } = {}) {
  const setpriv = '/usr/bin/setpriv';
  const [command, ...rest] = existsSync(setpriv)
    ? [setpriv, '--pdeathsig', endSignal.slice(3), '--', program, ...args]
    : [program, ...args];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  child.log = '';
  child.stdout.on('data', (text) => { child.log += text; });
  child.stderr.on('data', (text) => { child.log += text; });
  child.ended = once(child, 'exit');
  atEnd(test, async () => {
    child.kill(endSignal);
    const kill = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await child.ended;
    clearTimeout(kill);
  });
  return child;
}

/** A real redis-server; it keeps what it was told, so that it can be killed and started again. */
export async function startRedis(test) {
  const [port, home] = [await freePort(), directory(test)];
  const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes'];
  let child;
  const begin = async () => {
    child = start(test, '/usr/bin/redis-server', args, { cwd: home });
    await eventually('redis-server answers', () => redisCommand(port, 'PING').catch(() => false));
  };
  await begin();
  return {
    url: `redis://127.0.0.1:${port}`,
    publish: (channel, text) => redisCommand(port, 'PUBLISH', channel, text),
    add: (stream, text) => redisCommand(port, 'XADD', stream, '*', 'data', text),
    /** Kills it, and starts it again with what it has kept. */
    async restart() {
      child.kill('SIGKILL');
      await child.ended;
      await begin();
    },
  };
}

/** Sends one command, and gives the first line of its answer. */
export async function redisCommand(port, ...words) {
  const socket = connect(port, '127.0.0.1');
  const bulk = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  socket.write(`*${words.length}\r\n${bulk.join('')}`);
  try {
    const [answer] = await once(socket, 'data');
    return answer.toString().split('\r\n')[0];
  } finally {
    socket.destroy();
  }
}

/** A backend with one empty page. */
export async function startBackend(test) {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><title>a page</title>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(test, () => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** A gateway: TLS on one port, clear text on another, streams under /events, pages elsewhere. */
export async function startGateway(test, { redis, backend, port = 0, admin = 0, home = directory(test) }) {
  const file = join(home, 'gateway.yaml');
  writeFileSync(file, `
listeners:
  - address: 127.0.0.1:${port}
    tls: { self_signed: true }
  - address: 127.0.0.1:0
admin: { address: "127.0.0.1:${admin}" }
redis: { url: "${redis.url}" }
sse: { retry: 1s }
routes:
  - path: /events/{channel}
    events: { channels: ["{channel}"] }
  - path: /kept/{channel}
    events: { channels: ["{channel}"], source: stream }
  - path: /{*rest}
    proxy: { upstream: "${backend}" }
`);
  return run(test, ['run', '-c', file], home);
}

/** Any command line of the gateway that serves. */
export async function run(test, args, home) {
  const env = { ...process.env, HOME: home, XDG_STATE_HOME: join(home, 'state') };
  const child = start(test, GATEWAY, args, { cwd: home, env });
  const lines = () => child.log.split('\n').filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line).fields ?? {});
  await eventually('the gateway has started', () => {
    if (child.exitCode !== null) throw new Error(`the gateway has ended:\n${child.log}`);
    return lines().some((fields) => fields.message === 'started');
  });
  const address = (kind) => lines()
    .find((fields) => fields.message === 'listening' && fields.kind === kind).address;
  return {
    child,
    https: `https://${address('https')}`,
    http: `http://${address('http')}`,
    address,
    /** The sum of all samples of a metric that have this label. */
    async metric(name, label = '') {
      const text = await (await fetch(`http://${address('admin')}/metrics`)).text();
      return text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
        .filter((line) => line.includes(label))
        .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
    },
  };
}

/** Chromium with a profile of its own. */
export async function openBrowser(test) {
  const context = await chromium.launchPersistentContext(directory(test), {
    executablePath: CHROMIUM,
    headless: true,
    ignoreHTTPSErrors: true,
    viewport: { width: 1100, height: 800 },
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
  atEnd(test, () => context.close());
  return context;
}

/** Opens so many streams in a page; what they see is kept in `window.streams`. */
export function openStreams(page, target, count) {
  return page.evaluate(([path, many]) => {
    window.streams = Array.from({ length: many }, () => {
      const source = new EventSource(path);
      const stream = { source, messages: [], opened: 0, failed: 0 };
      source.onopen = () => { stream.opened += 1; };
      source.onmessage = (event) => { stream.messages.push(event.data); };
      source.onerror = () => { stream.failed += 1; };
      return stream;
    });
  }, [target, count]);
}

/** How many streams of the page are open. */
export const openCount = (page) => page.evaluate(
  () => window.streams.filter((stream) => stream.source.readyState === EventSource.OPEN).length,
);

/** How many streams of the page have seen `text`. */
export const seenCount = (page, text) => page.evaluate(
  (data) => window.streams.filter((stream) => stream.messages.includes(data)).length, text,
);
