// A backend over HTTP/1.1 (http1) or HTTP/2 in clear text (http2), by Node.
//
//   node backend_servers.cjs http1|http2 [streams at the same time]
//
// It prints its port. /large is a body of 8 MiB, /events a stream with an event in each 100 ms,
// /upload the length of the request's body, /hints is announced by 103 Early Hints, /stuck reads none of it, /close closes the connections
// that are idle, again and again from then on; anything else is "ok".
'use strict';

const http = require('node:http');
const http2 = require('node:http2');

const [kind, streams] = process.argv.slice(2);
const large = Buffer.alloc(8 << 20, 'x');
const sessions = new Set();

function handle(request, response) {
  // Those who leave do not matter here.
  response.on('error', () => {});
  request.on('error', () => {});
  switch (request.url) {
    case '/large':
      response.end(large);
      break;
    case '/events': {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\n\n');
      const timer = setInterval(() => response.write('data: next\n\n'), 100);
      response.on('close', () => clearInterval(timer));
      break;
    }
    case '/upload': {
      let length = 0;
      request.on('data', (chunk) => { length += chunk.length; });
      request.on('end', () => response.end(String(length)));
      break;
    }
    case '/hints':
      response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      response.end('hinted');
      break;
    case '/stuck':
      break;
    case '/close':
      setInterval(closeIdle, 7);
      response.end('ok');
      break;
    default:
      // Without this header a client does not know when Node closes the connection.
      if (kind === 'http1') response.setHeader('connection', 'keep-alive');
      request.resume();
      response.end('ok');
  }
}

function closeIdle() {
  if (kind === 'http1') {
    server.closeIdleConnections();
  } else {
    // Those that have served something: they are as good as idle.
    for (const session of sessions) if (session.hasServed) session.close();
  }
}

const server = kind === 'http2'
  ? http2.createServer({ settings: streams ? { maxConcurrentStreams: Number(streams) } : {} }, handle)
  : http.createServer({ keepAliveTimeout: 60_000 }, handle);
server.on('session', (session) => {
  sessions.add(session);
  session.on('close', () => sessions.delete(session));
  session.on('error', () => {});
  session.on('stream', () => { session.hasServed = true; });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
