// A backend that refuses an upload as soon as it has read the head of the request. The first segment
// of the path says how: `keep` keeps the connection, `close` says that it will close it, `destroy`
// resets it once the response is written; `chunks` closes it, and does not say how long the response
// is. Prints its port.
const http = require('http');

const server = http.createServer((request, response) => {
  const how = request.url.split('/')[1];
  if (how !== 'keep') response.setHeader('Connection', 'close');
  if (how === 'destroy') response.on('finish', () => request.socket.destroy());
  const body = 'too large for this backend';
  const length = how === 'chunks' ? {} : { 'Content-Length': body.length };
  response.writeHead(413, { 'Content-Type': 'text/plain', ...length });
  response.end(body);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
