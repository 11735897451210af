// Uploads of node's HTTP/2 on one connection: many to a backend that does not read, then one to a backend
// that does. Says `stuck` when nothing moves any more, `begun` when it has begun the last one, and then
// how that ended. SIGUSR2 takes the stuck ones back.
const http2 = require("node:http2");

const [address, count] = process.argv.slice(2);
const session = http2.connect(`http://${address}`, { maxSessionMemory: 1000 });
const body = Buffer.alloc(12 << 20, "x");
const stuck = [];
for (let number = 0; number < Number(count); number++) {
  const request = session.request({ ":method": "POST", ":path": "/stuck" });
  request.on("error", () => {});
  request.write(body);
  stuck.push(request);
}
process.on("SIGUSR2", () => stuck.forEach((request) => request.close(http2.constants.NGHTTP2_CANCEL)));

let written = 0;
let quiet = 0;
const look = setInterval(() => {
  const now = session.socket?.bytesWritten ?? 0;
  quiet = now === written && now > 0 ? quiet + 1 : 0;
  written = now;
  if (quiet < 10) return;
  clearInterval(look);
  console.log("stuck");
  const last = session.request({ ":method": "POST", ":path": "/read" });
  last.on("response", (headers) => {
    console.log(`${headers[":status"]} ${headers["x-length"]}`);
    session.destroy();
  });
  last.end(Buffer.alloc(1 << 20, "y"));
  console.log("begun");
}, 100);
