// A `fetch` and its dispatcher for clients that take one: any certificate is taken, and HTTP/2 is spoken
// with HTTP2=yes.

const { Agent, fetch } = require('undici');

exports.dispatcher = new Agent({
  allowH2: Boolean(process.env.HTTP2),
  connect: { rejectUnauthorized: false },
  bodyTimeout: 0,
});

exports.fetch = (url, options) => fetch(url, { ...options, dispatcher: exports.dispatcher });
