// Follows a stream with @microsoft/fetch-event-source: fetch_event_source.cjs URL
//
// It is made for pages: `window` and `document` are what it asks of one. It takes an end in good
// order for the end, unless `onclose` throws.

const { fetch } = require('./node.cjs');
const { print, url } = require('./print.cjs');

globalThis.window = { fetch, setTimeout, clearTimeout };
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = require('@microsoft/fetch-event-source');

fetchEventSource(url, {
  openWhenHidden: true,
  onmessage: print,
  onclose() { throw new Error('the stream has ended'); },
  onerror(error) { process.stderr.write(`${error}\n`); },
});
