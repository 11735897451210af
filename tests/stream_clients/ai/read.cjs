// Reads a stream of an AI service with a library as applications use it: read.cjs LIBRARY URL
//
// One line of JSON for each thing that the application is given. The stream comes from the path that the
// library asks for under URL.

const [library, url] = process.argv.slice(2);
const print = (seen) => process.stdout.write(`${JSON.stringify(seen)}\n`);
const authorization = 'Bearer anna';
const chat = { model: 'm', messages: [{ role: 'user', content: 'hi' }], stream: true, max_tokens: 9 };
const say = (text) => [{ id: 'm1', role: 'user', parts: [{ type: 'text', text }] }];

/** A page for fetch-event-source, which it believes to be hidden and shown again. */
const page = () => {
  const listeners = [];
  globalThis.window = { fetch, setTimeout, clearTimeout };
  globalThis.document = {
    hidden: false,
    addEventListener: (_, listener) => listeners.push(listener),
    removeEventListener: (_, listener) => listeners.splice(listeners.indexOf(listener), 1),
  };
  return (hidden) => {
    document.hidden = hidden;
    [...listeners].forEach((listener) => listener());
  };
};

const printAll = async (stream) => {
  for await (const part of stream) print(part);
};

const transport = () => {
  const { DefaultChatTransport } = require('ai');
  return new DefaultChatTransport({ api: `${url}/ai`, headers: { authorization } });
};

const libraries = {
  async openai() {
    const { OpenAI } = require('openai');
    const client = new OpenAI({ baseURL: `${url}/openai`, apiKey: 'anna', maxRetries: 0 });
    await printAll(await client.chat.completions.create(chat));
  },
  async anthropic() {
    const { Anthropic } = require('@anthropic-ai/sdk');
    const client = new Anthropic({ baseURL: `${url}/anthropic`, apiKey: 'anna', maxRetries: 0 });
    await printAll(await client.messages.create(chat));
  },
  async ai() {
    const request = { trigger: 'submit-message', chatId: 'c1', messages: say('hi') };
    await printAll(await transport().sendMessages(request));
  },
  /** Leaves after two parts, as a page that is reloaded, and asks for the stream again. */
  async 'ai-reload'() {
    const abort = new AbortController();
    const request = { trigger: 'submit-message', chatId: 'c2', messages: say('be slow') };
    const reader = (await transport().sendMessages({ ...request, abortSignal: abort.signal })).getReader();
    await reader.read();
    await reader.read();
    abort.abort();
    const resumed = await transport().reconnectToStream({ chatId: 'c2' });
    await printAll(resumed);
    print(await transport().reconnectToStream({ chatId: 'c2' }));
  },
  async 'fetch-event-source'() {
    page();
    const { fetchEventSource } = require('@microsoft/fetch-event-source');
    const request = { method: 'POST', body: '{}', headers: { authorization } };
    await fetchEventSource(`${url}/events`, { ...request, onmessage: print });
  },
  /** Its page is hidden after two events, and shown again. */
  async 'fetch-event-source-hidden'() {
    const hide = page();
    const { fetchEventSource } = require('@microsoft/fetch-event-source');
    let count = 0;
    const onmessage = (message) => {
      print(message);
      count += 1;
      if (count === 2) {
        // Not within its own turn.
        setTimeout(() => {
          hide(true);
          setTimeout(() => hide(false), 100);
        });
      }
    };
    const request = { method: 'POST', body: '{"hidden":"slow"}', headers: { authorization } };
    await fetchEventSource(`${url}/events`, { ...request, onmessage });
  },
  async eventsource() {
    const { EventSource } = require('eventsource');
    const withOwner = (to, init) => fetch(to, { ...init, headers: { ...init.headers, authorization } });
    const source = new EventSource(`${url}/events?get`, { fetch: withOwner });
    for (const name of ['message', 'named']) {
      source.addEventListener(name, ({ type, data }) => {
        print({ event: type, data });
        if (data === 'last') source.close();
      });
    }
  },
  /** A second tab: the address of a stream that another has begun. It stops at the end by itself. */
  async 'eventsource-address'() {
    const { EventSource } = require('eventsource');
    const begun = await fetch(`${url}/events`, { method: 'POST', body: '{"tab":1}', headers: { authorization } });
    const withOwner = (to, init) => fetch(to, { ...init, headers: { ...init.headers, authorization } });
    const source = new EventSource(new URL(begun.headers.get('location'), url), { fetch: withOwner });
    for (const name of ['message', 'named']) {
      source.addEventListener(name, ({ type, data }) => print({ event: type, data }));
    }
    await begun.text();
    await new Promise((stopped) => {
      source.addEventListener('error', () => source.readyState === EventSource.CLOSED && stopped());
    });
  },
  /** Stops a generation. */
  async delete() {
    const begun = await fetch(`${url}/events`, { method: 'POST', body: '{"be":"slow"}', headers: { authorization } });
    const reader = begun.body.getReader();
    await reader.read();
    const address = new URL(begun.headers.get('location'), url);
    const deleted = await fetch(address, { method: 'DELETE', headers: { authorization } });
    while (!(await reader.read()).done);
    print(deleted.status);
  },
};

libraries[library]().catch((error) => {
  print({ error: `${error}` });
  process.exitCode = 1;
});
