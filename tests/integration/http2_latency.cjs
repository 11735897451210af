// Many streams of events and one download on one HTTP/2 connection of node's. Says `downloading` when that
// has begun, and after so many events how long they took, in milliseconds.
//
//     node http2_latency.cjs ADDRESS STREAMS EVENTS
const http2 = require("node:http2");
const { performance } = require("node:perf_hooks");

const [address, streams, events] = process.argv.slice(2);
const session = http2.connect(`http://${address}`, { settings: { initialWindowSize: 4 << 20 } });
session.on("connect", () => session.setLocalWindowSize(16 << 20));
const now = () => performance.timeOrigin + performance.now();
const took = [];
let ready = 0;

function listen(number) {
  const request = session.request({ ":path": `/events/c${number}`, accept: "text/event-stream" });
  let text = "";
  request.on("data", (piece) => {
    text += piece;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line === ": ready" && ++ready === Number(streams)) download();
      const data = /^data: ?(.*)$/.exec(line);
      if (data) note(now() - Number(data[1]));
    }
  });
}

let began = 0;
let length = 0;

function download() {
  began = performance.now();
  const request = session.request({ ":path": "/large" });
  request.on("data", (piece) => {
    if (length < 1 << 20 && length + piece.length >= 1 << 20) console.log("downloading");
    length += piece.length;
  });
}

function note(time) {
  took.push(time);
  if (took.length < Number(events)) return;
  took.sort((a, b) => a - b);
  const at = (share) => took[Math.ceil(took.length * share) - 1].toFixed(1);
  const rate = length / (performance.now() - began) / 1000;
  console.log(`${at(0.5)} ${at(0.99)} ${rate.toFixed(2)}`);
  process.exit(0);
}

for (let number = 0; number < Number(streams); number++) listen(number);
