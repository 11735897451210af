"""An HTTP/2 peer on python's h2, which shares nothing with the gateway: well-behaved or not.

    h2_peer.py HOST PORT SCENARIO...

Each scenario is a function below. The exit code says whether the gateway did as RFC 9113 and its own
limits demand; what was measured goes to standard output as one JSON object for each scenario.
"""

import json
import select
import socket
import ssl
import sys
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

ENHANCE_YOUR_CALM = 11
PATIENCE = 15


class Peer:
    """One connection over TLS, HTTP/2 by ALPN."""

    def __init__(self, host, port):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        tcp = socket.create_connection((host, port), timeout=PATIENCE)
        self.code = None
        self.socket = context.wrap_socket(tcp, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == "h2", "ALPN"
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def get(self, path, **fields):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "localhost")]
        self.h2.send_headers(stream, head + list(fields.items()), end_stream=True)
        self.flush()
        return stream

    def events(self):
        """The next events of h2; ends when the connection does."""
        while True:
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return
            if not data:
                return
            events = self.h2.receive_data(data)
            try:
                self.flush()
            except (OSError, ssl.SSLError):
                # It has hung up; what it said before is still to be read.
                pass
            yield from events

    def has_said_goodbye(self):
        """Reads what has come, without waiting: who only writes is reset, and hears no reason."""
        while self.code is None and (self.socket.pending() or select.select([self.socket], [], [], 0)[0]):
            data = self.socket.recv(65536)
            if not data:
                break
            self.notice(self.h2.receive_data(data))
        return self.code is not None

    def notice(self, events):
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated):
                self.code = int(event.error_code)

    def goaway(self):
        """Waits for the end, and gives the code of the GOAWAY before it."""
        if self.code is None:
            self.notice(self.events())
        return self.code


def page(peer):
    """A request like any other, and ten at once."""
    streams = {peer.get("/site"): b"" for _ in range(10)}
    statuses, ended = {}, set()
    for event in peer.events():
        if isinstance(event, h2.events.ResponseReceived):
            statuses[event.stream_id] = dict(event.headers)[":status"]
        elif isinstance(event, h2.events.DataReceived):
            streams[event.stream_id] += event.data
            peer.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            ended.add(event.stream_id)
            if len(ended) == 10:
                break
    assert set(statuses.values()) == {"200"} and len(statuses) == 10, statuses
    assert all(body == b"hello" for body in streams.values()), streams
    return {"answers": len(ended)}


def stream(peer):
    """A stream of events whose window is given back only when it is all but used up."""
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1024})
    peer.flush()
    number = peer.get("/events/crowd", accept="text/event-stream")
    text, owed, updates = b"", 0, 0
    for event in peer.events():
        if isinstance(event, h2.events.ResponseReceived):
            head = dict(event.headers)
            assert head[":status"] == "200" and head["content-type"].startswith("text/event-stream"), head
        elif isinstance(event, h2.events.DataReceived):
            text += event.data
            owed += event.flow_controlled_length
            if owed > 900:
                peer.h2.acknowledge_received_data(owed, number)
                peer.flush()
                owed, updates = 0, updates + 1
            if text.count(b"\ndata: ") + text.startswith(b"data: ") >= 100:
                break
        assert not isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)), event
    numbers = [int(line.split()[1]) for line in text.split(b"\n") if line.startswith(b"data: ")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
    assert len(numbers) >= 100 and updates >= 2, (len(numbers), updates)
    return {"events": len(numbers), "window_updates": updates}


def rapid_reset(peer):
    """CVE-2023-44487: asks and takes it back, one by one."""
    asked = 0
    try:
        for asked in range(1, 2001):
            number = peer.get("/silent")
            time.sleep(0.001)
            peer.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            peer.flush()
            if peer.has_said_goodbye():
                break
    except (OSError, ssl.SSLError):
        pass
    code = peer.goaway()
    assert code == ENHANCE_YOUR_CALM and asked < 2000, (code, asked)
    return {"asked": asked, "goaway": code}


def continuation(peer):
    """CVE-2024-27316: a header block without end. h2 does not write such a thing."""
    block = peer.h2.encoder.encode(
        [(":method", "GET"), (":scheme", "https"), (":path", "/site"), (":authority", "localhost")]
    )
    frame = lambda kind, flags, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + (1).to_bytes(4, "big") + payload
    )
    sent = 0
    try:
        peer.socket.sendall(frame(1, 1, block))
        for sent in range(1, 10_001):
            peer.socket.sendall(frame(9, 0, b"\x00\x01a\x01b"))
            if peer.has_said_goodbye():
                break
    except (OSError, ssl.SSLError):
        pass
    code = peer.goaway()
    assert code == ENHANCE_YOUR_CALM and sent < 10_000, (code, sent)
    return {"sent": sent, "goaway": code}


def ping_flood(peer):
    """Asks whether the gateway lives, and nothing else."""
    sent = 0
    try:
        for sent in range(1, 1_000_001):
            peer.h2.ping(b"is it so")
            if sent % 100 == 0:
                peer.flush()
                if peer.has_said_goodbye():
                    break
    except (OSError, ssl.SSLError):
        pass
    code = peer.goaway()
    assert sent < 1_000_000 and code == ENHANCE_YOUR_CALM, (sent, code)
    return {"sent": sent, "goaway": code}


def oversized(peer):
    """A header that is too large costs its own stream only."""
    number = peer.get("/site", **{"x-large": "x" * 14_000, "x-larger": "x" * 14_000})
    statuses = {}
    for event in peer.events():
        if isinstance(event, h2.events.ResponseReceived):
            statuses[event.stream_id] = dict(event.headers)[":status"]
            if len(statuses) == 2:
                break
            peer.get("/site")
    assert statuses.pop(number) == "431" and list(statuses.values()) == ["200"], statuses
    return {"refused": 1, "served": 1}


SCENARIOS = (page, stream, rapid_reset, continuation, ping_flood, oversized)


def main(host, port, *names):
    scenarios = {scenario.__name__: scenario for scenario in SCENARIOS}
    for name in names or scenarios:
        measured = scenarios[name](Peer(host, int(port)))
        print(json.dumps({"scenario": name, **measured}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
