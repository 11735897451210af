// Scripts that stream by themselves (examples/php/streams), in front of the browser directly and
// through the gateway: the same events, the same headers, and each event in time.

import assert from 'node:assert/strict';
import test from 'node:test';

import { eventually, openBrowser } from './support.js';
import { startExampleGateway, startNginx, startPhpServer } from './php.js';

/** From the writing of an event to the page: 100 ms, and room for a machine that is busy. */
const IN_TIME_MS = 5 * 100;

/** Headers that belong to a connection, to the moment, or to the gateway. */
const NOT_COMPARED = new Set([
  'connection', 'date', 'keep-alive', 'transfer-encoding', 'via', 'x-accel-buffering',
]);

/** Numbers change from one time to the next, and so do the day and the scheme. */
const shape = (text) => text.replace(/\d+/g, '#').replace(/[A-Z][a-z]{2}, # [A-Z][a-z]{2} #/, 'day')
  .replace(/https:/, 'http:');

/** Opens a script as an EventSource until it has had so many events of this name. */
function listen(page, path, { count, name = 'message', withCredentials = false }) {
  return page.evaluate(([url, wanted, kind, credentials]) => new Promise((resolve) => {
    const source = new EventSource(url, { withCredentials: credentials });
    const seen = { events: [], opened: 0, failed: 0 };
    const take = (event) => {
      const delay = event.lastEventId === '' ? null : Date.now() - Number(event.lastEventId);
      seen.events.push({ type: event.type, data: event.data, delay });
      if (seen.events.filter(({ type }) => type === kind).length === wanted) {
        source.close();
        resolve(seen);
      }
    };
    source.onopen = () => { seen.opened += 1; };
    source.onerror = () => { seen.failed += 1; };
    source.onmessage = take;
    source.addEventListener('ping', take);
  }), [path, count, name, withCredentials]);
}

/** Asks with POST, and reads the answer as it comes. */
function chat(page, question) {
  return page.evaluate(async (asked) => {
    const body = JSON.stringify({ question: asked });
    const response = await fetch('/streams/chat.php', { method: 'POST', body });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const answer = { status: response.status, text: '', tokens: 0, delays: [], isDone: false };
    for (let rest = ''; ;) {
      const { done, value } = await reader.read();
      if (done) return answer;
      const events = (rest + value).split('\n\n');
      rest = events.pop();
      for (const data of events.map((event) => event.replace(/^data: /, ''))) {
        if (data === '[DONE]') {
          answer.isDone = true;
        } else {
          const { created, choices } = JSON.parse(data);
          answer.delays.push(Date.now() - created);
          answer.text += choices[0].delta.content;
          answer.tokens += 1;
        }
      }
    }
  }, question);
}

/** Status, headers and, where it has an end, the body of a script. */
function ask(page, path, hasEnd) {
  return page.evaluate(async ([url, whole]) => {
    const stop = new AbortController();
    const response = await fetch(url, { signal: stop.signal, headers: { accept: 'text/event-stream' } });
    const body = whole ? await response.text() : null;
    stop.abort();
    const entries = performance.getEntriesByName(response.url);
    return {
      status: response.status,
      headers: [...response.headers],
      body,
      protocol: entries.at(-1)?.nextHopProtocol,
    };
  }, [path, hasEnd]);
}

/** What a page saw, without what differs from one time to the next. */
function comparable(seen) {
  // Plain messages of ping.php come at random.
  const isPing = seen.events.some(({ type }) => type === 'ping');
  const events = isPing ? seen.events.filter(({ type }) => type === 'ping') : seen.events;
  return { ...seen, events: events.map(({ type, data }) => [type, shape(data)]) };
}

function assertInTime(t, what, delays) {
  const slowest = Math.max(...delays);
  t.diagnostic(`${what}: ${delays.length} events, the slowest after ${slowest} ms`);
  assert.ok(delays.every((delay) => delay >= 0 && delay <= IN_TIME_MS), `${what}: ${delays}`);
}

const delaysOf = (seen) => seen.events.map(({ delay }) => delay).filter((delay) => delay !== null);

test('behind nginx and php-fpm the classic scripts are the same through the gateway', { timeout: 120_000 }, async (t) => {
  const direct = await startNginx(t, { workers: 40, ports: 2 });
  const gateway = await startExampleGateway(t, { backend: direct[0] });
  const browser = await openBrowser(t);
  const open = async (origin) => {
    const page = await browser.newPage();
    await page.goto(`${origin}/streams/once.php`);
    await page.context().addCookies([{ name: 'visitor', value: 'anna', url: origin }]);
    return page;
  };
  // Over HTTP/1.1 a browser opens six streams to one origin: two origins for eight scripts.
  const [firstDirect, secondDirect] = [await open(direct[0]), await open(direct[1])];
  const through = await open(gateway.origins[1]);

  const crossOrigin = (other) => `${other}/streams/cross-origin.php`;
  const listens = (first, second, other) => ({
    endless: listen(first, '/streams/endless.php', { count: 6 }),
    once: listen(first, '/streams/once.php', { count: 2 }),
    date: listen(first, '/streams/date.php', { count: 2 }),
    unfinished: listen(second, '/streams/unfinished.php', { count: 2 }),
    ping: listen(second, '/streams/ping.php', { count: 4, name: 'ping' }),
    ten: listen(second, '/streams/ten.php', { count: 10 }),
    'cross-origin': listen(first, crossOrigin(other), { count: 1, withCredentials: true }),
  });
  const settle = async (streams) => Object.fromEntries(
    await Promise.all(Object.entries(streams).map(async ([name, seen]) => [name, await seen])),
  );
  const [directly, byGateway] = await Promise.all([
    settle(listens(firstDirect, secondDirect, direct[1])),
    settle(listens(through, through, gateway.origins[0])),
  ]);
  for (const [name, seen] of Object.entries(byGateway)) {
    // The page of the direct one has another origin, and says so.
    assert.deepEqual(comparable(seen), comparable(directly[name]), name);
    assertInTime(t, `${name}.php through the gateway`, delaysOf(seen));
  }
  assert.equal(byGateway.endless.opened, 1);
  assert.equal(byGateway.once.opened, 2, 'the browser came back');
  const { origin, visitor } = JSON.parse(byGateway['cross-origin'].events[0].data);
  assert.deepEqual([origin, visitor], [gateway.origins[1], 'anna'], 'with its cookies');
  for (const { data } of byGateway.unfinished.events) assert.doesNotMatch(data, /never ends/);

  for (const [name, hasEnd] of [
    ['endless', false], ['once', true], ['date', true], ['ping', false], ['ten', false],
    ['unfinished', true], ['cross-origin', true],
  ]) {
    const path = `/streams/${name}.php`;
    const [wanted, got] = [await ask(firstDirect, path, hasEnd), await ask(through, path, hasEnd)];
    assert.equal(got.status, wanted.status, name);
    const kept = ({ headers }) => headers.filter(([key]) => !NOT_COMPARED.has(key)).sort();
    assert.deepEqual(kept(got), kept(wanted), name);
    assert.equal(new Map(got.headers).get('x-accel-buffering'), 'no', name);
    if (hasEnd) {
      assert.equal(shape(got.body), shape(wanted.body), name);
      assert.deepEqual([wanted.protocol, got.protocol], ['http/1.1', 'h2'], name);
    }
  }

  const [wanted, got] = [await chat(firstDirect, 'What'), await chat(through, 'What')];
  assert.deepEqual([got.status, got.text, got.tokens, got.isDone], [wanted.status, wanted.text, wanted.tokens, true]);
  assert.match(got.text, /^You have asked: What\. .* with ümläuts and 日本語/);
  assertInTime(t, 'chat.php through the gateway', got.delays);

  const closed = await gateway.metric('ssegate_streams_closed_total');
  assert.ok(closed >= 16, `${closed} streams were counted`);
});

test('PHP\'s own server answers one request at a time, and so it does through the gateway', { timeout: 120_000 }, async (t) => {
  const direct = [await startPhpServer(t), await startPhpServer(t)];
  const gateway = await startExampleGateway(t, { backend: direct[0] });
  const browser = await openBrowser(t);
  const seen = [];
  for (const [origin, other] of [direct, gateway.origins]) {
    const page = await browser.newPage();
    await page.goto(`${origin}/streams/once.php`);
    await page.context().addCookies([{ name: 'visitor', value: 'anna', url: origin }]);
    const results = {};
    for (const [name, wanted] of [
      ['once', { count: 2 }],
      ['unfinished', { count: 1 }],
      ['endless', { count: 4 }],
      ['ping', { count: 2, name: 'ping' }],
      ['date', { count: 1 }],
      ['ten', { count: 10 }],
      ['cross-origin', { count: 1, withCredentials: true }],
    ]) {
      const at = name === 'cross-origin' ? other : origin;
      const stream = await listen(page, `${at}/streams/${name}.php`, wanted);
      assertInTime(t, `${name}.php from ${origin}`, delaysOf(stream));
      results[name] = comparable(stream);
    }
    assert.match(results['cross-origin'].events[0][1], /anna/, 'with its cookies');
    const { delays, ...answer } = await chat(page, 'What');
    assertInTime(t, `chat.php from ${origin}`, delays);
    seen.push({ ...results, chat: answer });
    await page.close();
  }
  assert.deepEqual(seen[1], seen[0]);
});

test('a script hears that its visitor has left', { timeout: 60_000 }, async (t) => {
  const [backend] = await startNginx(t, { workers: 4 });
  const gateway = await startExampleGateway(t, { backend });
  const browser = await openBrowser(t);
  const page = await browser.newPage();
  await page.goto(`${gateway.https}/streams/once.php`);
  await Promise.all(['ping', 'endless', 'ping', 'endless'].map(
    (name) => listen(page, `/streams/${name}.php`, { count: 1, name: name === 'ping' ? 'ping' : 'message' })
  ));
  // All four workers stream, and every one of them has to notice at its next words.
  const pages = await Promise.all([1, 2, 3, 4].map(() => browser.newPage()));
  await page.close();
  await Promise.all(pages.map((other) => other.goto(`${gateway.https}/streams/once.php`)));
  await eventually('nobody streams', async () => await gateway.metric('ssegate_streams') === 0);
});
