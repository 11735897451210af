// An event stream that says why it is not there, and comes back. An EventSource tells neither a status nor its text,
// nor events whose name is not known beforehand.

/** Reads the text of an event stream (WHATWG HTML, section 9.2.6), and gives each event to `take`. */
export class Parser {
  constructor(take, id = '') {
    this.take = take;
    this.rest = '';
    this.id = id;
    this.clear();
  }

  clear() {
    this.name = '';
    this.data = [];
  }

  push(text) {
    text = this.rest + text;
    // A CR at the end may be the first half of a line end.
    const lineEnd = /\r\n|\n|\r(?!$)/g;
    let start = 0;
    for (let end = lineEnd.exec(text); end; end = lineEnd.exec(text)) {
      this.line(text.slice(start, end.index));
      start = lineEnd.lastIndex;
    }
    this.rest = text.slice(start);
  }

  line(line) {
    if (line === '') {
      if (this.data.length) this.take({ name: this.name || 'message', data: this.data.join('\n'), id: this.id });
      this.clear();
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.data.push(value);
    else if (field === 'event') this.name = value;
    else if (field === 'id' && !value.includes('\0')) this.id = value;
  }
}

/** What will not pass by itself. */
const FINAL = [400, 401, 403, 404, 405];

/** Opens the stream at `url`, and again whenever it has ended. `onOpen()`, `onEvent(event)`, and
 *  `onLost(why, isFinal)`: once for each time that it is away. After `silence` milliseconds without a byte it counts as
 *  lost. `id` is that of the last event. Returns what closes it. */
export function open(url, { onOpen, onEvent, onLost, silence, id = '' }) {
  const closed = new AbortController();
  const from = new URL(url, location);
  const take = (event) => { id = event.id; onEvent(event); };
  const pause = (milliseconds) => new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    closed.signal.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
  });

  async function once() {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    closed.signal.addEventListener('abort', stop, { once: true });
    let watch = setTimeout(stop, silence);
    let isOpen = false;
    try {
      if (id) from.searchParams.set('last_event_id', id);
      const response = await fetch(from, { signal: attempt.signal, headers: { accept: 'text/event-stream' }, cache: 'no-store' });
      if (!response.ok) {
        const text = (await response.text()).trim();
        return { why: text || `the gateway responds ${response.status}`, isFinal: FINAL.includes(response.status) };
      }
      isOpen = true;
      onOpen();
      const parser = new Parser(take, id);
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return { why: 'the gateway has ended the stream', isOpen };
        clearTimeout(watch);
        watch = setTimeout(stop, silence);
        parser.push(decoder.decode(value, { stream: true }));
      }
    } catch (error) {
      const why = attempt.signal.aborted ? 'nothing was received' : 'the gateway cannot be reached';
      return { why: error instanceof TypeError || attempt.signal.aborted ? why : String(error), isOpen };
    } finally {
      clearTimeout(watch);
      closed.signal.removeEventListener('abort', stop);
    }
  }

  async function run() {
    let failures = 0;
    while (!closed.signal.aborted) {
      const ended = await once();
      if (closed.signal.aborted) return;
      failures = ended.isOpen ? 0 : failures + 1;
      onLost(ended.why, Boolean(ended.isFinal));
      if (ended.isFinal) return;
      await pause(Math.min(1000 * 2 ** failures, 10000) * (0.75 + Math.random() / 2));
    }
  }

  run();
  return () => closed.abort();
}
