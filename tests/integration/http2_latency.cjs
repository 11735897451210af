// Many streams of events and one download on one HTTP/2 connection of node's, and the same download alone
// on another. Says `downloading` when both have begun, and after so many events: how many KiB of the
// download arrived between the time an event was published and its arrival, at the middle and at 99 %;
// the share of the download in what both downloads had; and the milliseconds at the middle and at 99 %.
//
//     node http2_latency.cjs ADDRESS STREAMS EVENTS
const http2 = require("node:http2");
const { performance } = require("node:perf_hooks");

const [address, streams, events] = process.argv.slice(2);
const now = () => performance.timeOrigin + performance.now();
// Of each event: milliseconds, and octets of the download.
const took = [];
const passed = [];
let ready = 0;

function connect() {
  const session = http2.connect(`http://${address}`, { settings: { initialWindowSize: 4 << 20 } });
  session.on("connect", () => session.setLocalWindowSize(16 << 20));
  return session;
}

function listen(session, number) {
  const request = session.request({ ":path": `/events/c${number}`, accept: "text/event-stream" });
  let text = "";
  request.on("data", (piece) => {
    text += piece;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line === ": ready" && ++ready === Number(streams)) begin();
      const data = /^data: ?(.*)$/.exec(line);
      if (data) note(Number(data[1]));
    }
  });
}

class Download {
  constructor(session) {
    this.length = 0;
    // When each piece arrived, and how much was there then.
    this.arrivals = [];
    session.request({ ":path": "/large" }).on("data", (piece) => {
      this.length += piece.length;
      this.arrivals.push([now(), this.length]);
      if (beside.length >= 1 << 20 && alone.length >= 1 << 20) start();
    });
  }

  // How much was there at that time.
  at(time) {
    let index = this.arrivals.length - 1;
    while (index >= 0 && this.arrivals[index][0] > time) index -= 1;
    return index < 0 ? 0 : this.arrivals[index][1];
  }
}

let beside;
let alone;
let first;

function begin() {
  beside = new Download(shared);
  alone = new Download(connect());
}

function start() {
  if (first) return;
  first = [beside.length, alone.length];
  console.log("downloading");
}

function note(published) {
  took.push(now() - published);
  passed.push((beside.length - beside.at(published)) / 1024);
  if (took.length < Number(events)) return;
  const at = (values, share) => values.sort((a, b) => a - b)[Math.ceil(values.length * share) - 1].toFixed(1);
  const lengths = [beside.length - first[0], alone.length - first[1]];
  const share = (lengths[0] / (lengths[0] + lengths[1])).toFixed(2);
  console.log(`${at(passed, 0.5)} ${at(passed, 0.99)} ${share} ${at(took, 0.5)} ${at(took, 0.99)}`);
  process.exit(0);
}

const shared = connect();
for (let number = 0; number < Number(streams); number++) listen(shared, number);
