// A chat that reads its answer with @microsoft/fetch-event-source, in a tab that is hidden meanwhile: the library
// closes its request, and sends the very same POST again when the tab is shown.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import test from 'node:test';

import { directory, eventually, freePort, run } from './support.js';
import { openTabs } from './tabs_of_chromium.js';

const LIBRARY = join(import.meta.dirname, 'node_modules/@microsoft/fetch-event-source/lib/esm');

/** A model that says what it is told to say, the page of a chat, and the library. */
async function startModel(t) {
  const model = { calls: 0, answer: null };
  const server = createServer(async (request, response) => {
    if (request.method === 'POST') {
      for await (const _ of request);
      model.calls += 1;
      model.answer = response;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': thinking\n\n');
    } else if (request.url.startsWith('/lib/')) {
      // Its files import each other without an ending.
      const file = request.url.slice('/lib/'.length).replace(/\.js$/, '');
      response.setHeader('content-type', 'text/javascript');
      response.end(readFileSync(join(LIBRARY, `${file}.js`)));
    } else {
      response.setHeader('content-type', 'text/html');
      response.end('<!doctype html><title>a chat</title>');
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return Object.assign(model, {
    origin: `http://127.0.0.1:${server.address().port}`,
    say: (...words) => words.forEach((word) => model.answer.write(`data: ${word}\n\n`)),
  });
}

async function startKeeping(t, model) {
  const home = directory(t);
  const file = join(home, 'gateway.yaml');
  writeFileSync(file, `
listeners:
  - address: 127.0.0.1:0
    tls: { self_signed: true }
  - address: 127.0.0.1:0
admin: { address: "127.0.0.1:0" }
redis: { url: "embedded://127.0.0.1:${await freePort()}" }
routes:
  - path: /{*rest}
    proxy: { upstream: "${model.origin}" }
    keep: { owner: [authorization] }
`);
  return run(t, ['run', '-c', file], home);
}

/** Asks the model; what comes is in `seen`, and `state` says how it ended. */
const ASK = `
  window.seen = [];
  window.state = 'reading';
  import('/lib/index.js').then(({ fetchEventSource }) => fetchEventSource('/chat', {
    method: 'POST',
    body: '{"prompt":"hi"}',
    headers: { authorization: 'Bearer anna' },
    onmessage: ({ data }) => { window.seen.push(data); },
    onerror: (error) => { throw error; },
  })).then(() => { window.state = 'done'; }, (error) => { window.state = String(error); });
  'asked'
`;

test('a tab that is hidden and shown again sees every event once, of one generation', { timeout: 120_000 }, async (t) => {
  const model = await startModel(t);
  const gateway = await startKeeping(t, model);
  const tabs = await openTabs(t);
  const chat = await tabs.open(gateway.http);
  const other = await tabs.open('about:blank');
  const seen = () => chat.evaluate('window.seen.join(" ")');
  const sees = (text) => eventually(`the page has ${text}`, async () => await seen() === text);
  const hide = async () => {
    await other.show();
    assert.equal(await chat.evaluate('document.visibilityState'), 'hidden');
    await eventually('its request is closed', async () => await gateway.metric('ssegate_streams') === 0);
  };
  const resumed = (times) => eventually(`resumed ${times} times`,
    async () => await gateway.metric('ssegate_kept_resumes_total', 'by="request"') === times);

  await chat.show();
  await chat.evaluate(ASK);
  await eventually('the model is asked', () => model.answer);
  model.say('1', '2');
  await sees('1 2');
  await hide();
  model.say('3', '4');
  await chat.show();
  await sees('1 2 3 4');
  await resumed(1);
  model.say('5');
  await sees('1 2 3 4 5');
  // What ends while nobody sees it is read to its end, and not asked for again.
  await hide();
  model.say('6');
  model.answer.end();
  await eventually('it has ended', async () => await gateway.metric('ssegate_kept_streams', 'state="ended"') === 1);
  await chat.show();
  await sees('1 2 3 4 5 6');
  await eventually('the library is done', async () => await chat.evaluate('window.state') === 'done');
  await resumed(2);
  assert.equal(model.calls, 1);
});

test('a tab that has seen all before it was hidden comes to an end when it is shown', { timeout: 120_000 }, async (t) => {
  const model = await startModel(t);
  const gateway = await startKeeping(t, model);
  const tabs = await openTabs(t);
  const chat = await tabs.open(gateway.http);
  const other = await tabs.open('about:blank');
  await chat.show();
  await chat.evaluate(ASK);
  await eventually('the model is asked', () => model.answer);
  model.say('1');
  await eventually('the page has it', async () => await chat.evaluate('window.seen.join(" ")') === '1');
  await other.show();
  await eventually('its request is closed', async () => await gateway.metric('ssegate_streams') === 0);
  model.answer.end();
  await eventually('it has ended', async () => await gateway.metric('ssegate_kept_streams', 'state="ended"') === 1);
  await chat.show();
  // The library takes 204 for an error, and would send its POST again for ever.
  await eventually('the library is done', async () => await chat.evaluate('window.state') === 'done');
  assert.equal(await chat.evaluate('window.seen.join(" ")'), '1');
  assert.equal(model.calls, 1);
});
