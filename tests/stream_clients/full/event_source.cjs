// Follows a stream with a package that is an `EventSource`: PACKAGE=eventsource4 event_source.cjs URL

const { dispatcher, fetch } = require('../node.cjs');
const { print, url } = require('../print.cjs');

const packages = {
  // Takes the `fetch` that it is given.
  eventsource4: () => new (require('eventsource4').EventSource)(url, { fetch }),
  eventsource2: () => new (require('eventsource2'))(url, { https: { rejectUnauthorized: false } }),
  launchdarkly: () => new (require('launchdarkly-eventsource').EventSource)(url, { rejectUnauthorized: false }),
  undici: () => new (require('undici').EventSource)(url, { node: { dispatcher } }),
};

const source = packages[process.env.PACKAGE]();
for (const name of ['message', 'tick', 'gap']) {
  source.addEventListener(name, ({ data, lastEventId }) => print({ event: name, data, id: lastEventId }));
}
source.onerror = (error) => process.stderr.write(`${error.message ?? error.type}\n`);
// Undici waits for its next attempt with a timer that does not keep the process alive.
setInterval(() => {}, 60_000);
