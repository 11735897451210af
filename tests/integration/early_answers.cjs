// A backend over HTTP/1.1 (http1) or HTTP/2 in clear text (http2) that refuses an upload as soon as it
// has read the head of the request. The first segment of the path says how: `keep` keeps the
// connection, `close` says that it will close it, `destroy` resets it once the response is written;
// `chunks` closes it, and does not say how long the response is. Over HTTP/2 `reset` ends the stream
// with NO_ERROR behind the response (RFC 9113, section 8.1). Prints its port.
const http = require('http');
const http2 = require('http2');

const isHttp2 = process.argv[2] === 'http2';

function refuse(request, response) {
  const how = request.url.split('/')[1];
  const { stream } = request;
  const session = stream && stream.session;
  if (!isHttp2 && how !== 'keep') response.setHeader('Connection', 'close');
  response.on('error', () => {});
  response.on('finish', () => {
    if (how === 'reset') stream.close(http2.constants.NGHTTP2_NO_ERROR);
    if (how === 'destroy') isHttp2 ? setTimeout(() => session.destroy(), 20) : request.socket.destroy();
    if (isHttp2 && (how === 'close' || how === 'chunks')) session.close();
  });
  const body = 'too large for this backend';
  const length = how === 'chunks' ? {} : { 'Content-Length': body.length };
  response.writeHead(413, { 'Content-Type': 'text/plain', ...length });
  response.end(body);
}

const server = isHttp2 ? http2.createServer(refuse) : http.createServer(refuse);
server.on('session', (session) => session.on('error', () => {}));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
