// A backend with many kinds of answers. What it is asked, it says back.
'use strict';
const { createHash } = require('node:crypto');
const http = require('node:http');
const { gzipSync } = require('node:zlib');

const big = Buffer.alloc(3 << 20, 'The quick brown fox jumps over the lazy dog.\n');

const answers = {
  '/headers': (_, res) => {
    res.setHeader('Set-Cookie', ['a=1; Path=/; HttpOnly', 'b=2; SameSite=Lax', 'c="q, r"']);
    res.setHeader('X-Empty', '');
    res.setHeader('X-MixedCase', 'Some Value, with; punctuation="kept"');
    res.setHeader('X-Latin', Buffer.from('gr\u00fc\u00df', 'latin1').toString('latin1'));
    res.setHeader('X_Underscore', 'from a backend it may come');
    res.setHeader('Vary', ['Accept', 'Cookie']);
    res.setHeader('Link', ['</a>; rel=preload', '</b>; rel=next']);
    res.setHeader('Server', 'backend/1.0');
    res.setHeader('Alt-Svc', 'clear');
    res.end('headers');
  },
  '/many-headers': (_, res) => {
    for (let n = 0; n < 80; n++) res.setHeader(`X-Header-${n}`, `value ${n}`);
    res.end('many');
  },
  '/chunks': async (_, res) => {
    for (const piece of ['one', 'two', 'three']) {
      res.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    res.end();
  },
  '/length': (_, res) => res.writeHead(200, { 'Content-Length': 5 }).end('12345'),
  '/empty': (_, res) => res.writeHead(200, { 'Content-Length': 0 }).end(),
  '/until-closed': (_, res) => {
    res.useChunkedEncodingByDefault = false;
    res.removeHeader('Content-Length');
    res.setHeader('Connection', 'close');
    res.write('all that comes');
    res.end(' until the end');
  },
  '/big': (_, res) => res.end(big),
  '/big-chunked': (_, res) => {
    res.write(big.subarray(0, 1 << 20));
    res.end(big.subarray(1 << 20));
  },
  '/gzip': (_, res) => {
    res.writeHead(200, { 'Content-Encoding': 'gzip', 'Content-Type': 'text/plain' });
    res.end(gzipSync('compressed'));
  },
  '/range': (req, res) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(req.headers.range ?? 'bytes=0-9');
    const part = big.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${to}/${big.length}`;
    res.writeHead(206, { 'Content-Range': range, 'Content-Length': part.length }).end(part);
  },
  '/etag': (req, res) => {
    res.setHeader('ETag', '"v1"');
    if (req.headers['if-none-match'] === '"v1"') res.writeHead(304).end();
    else res.end('fresh');
  },
  '/redirect': (_, res) => res.writeHead(302, { Location: '../else?where=1#there' }).end('moved'),
  '/redirect-absolute': (_, res) =>
    res.writeHead(308, { Location: 'http://app.example:8000/x' }).end(),
  '/login': (_, res) =>
    res.writeHead(401, { 'WWW-Authenticate': 'Basic realm="the app"' }).end('who?'),
  '/download': (_, res) =>
    res.writeHead(200, { 'Content-Disposition': 'attachment; filename="r\u00e9sum\u00e9.txt"' })
      .end('file'),
  '/hints': (_, res) => {
    res.writeEarlyHints({ link: '</style.css>; rel=preload' });
    res.end('hinted');
  },
  '/reason': (_, res) => res.writeHead(200, 'Everything Fine').end('fine'),
  '/refused-early': (_, res) =>
    res.writeHead(413, { Connection: 'close' }).end('too large'),
};

function echo(req, res) {
  const hash = createHash('sha256');
  let length = 0;
  req.on('data', (chunk) => {
    length += chunk.length;
    hash.update(chunk);
  });
  req.on('end', () => {
    const headers = [];
    for (let n = 0; n < req.rawHeaders.length; n += 2) {
      headers.push(`${req.rawHeaders[n].toLowerCase()}: ${req.rawHeaders[n + 1]}`);
    }
    const { method, url } = req;
    const body = JSON.stringify({ method, url, headers, length, sha256: hash.digest('hex') });
    res.writeHead(200, { 'Content-Type': 'application/json' }).end(body);
  });
}

const server = http.createServer({ maxHeaderSize: 64 << 10 }, (req, res) => {
  const path = req.url.split('?')[0];
  const status = /^\/status\/(\d+)$/.exec(path);
  if (status) res.writeHead(Number(status[1]), { 'X-Status': status[1] }).end(`${status[1]} said`);
  else if (answers[path]) answers[path](req, res);
  else echo(req, res);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
