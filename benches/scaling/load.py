"""The clients of a measurement: processes with one loop each, which open streams and count what comes.

A process may have at most so many files open, so that many connections need several processes.
"""

import multiprocessing
import os
import selectors
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from scaling import wire
from scaling.machine import Failed, dial, more_files

#: Connections that are on their way at once.
OPENING = 64
#: Connections of one process.
MOST_CONNECTIONS = 8000


@dataclass(frozen=True)
class Mode:
    """How a stream is spoken."""

    is_tls: bool
    is_http2: bool
    streams_per_connection: int = 1

    @classmethod
    def parse(cls, text):
        """`h1`, `h1+tls`, `h2+tls`, or `h2+tls/16` with 16 streams on a connection."""
        name, _, streams = text.partition("/")
        if name not in ("h1", "h1+tls", "h2+tls") or (streams and not (streams.isdigit() and 1 <= int(streams) <= 256)):
            raise ValueError(f"{text!r} is not a mode: h1, h1+tls, h2+tls or h2+tls/N with 1 to 256 streams on a "
                             "connection")
        if streams and name != "h2+tls":
            raise ValueError(f"{text!r}: one stream on a connection of HTTP/1.1")
        return cls(name != "h1", name == "h2+tls", int(streams or 1))

    def __str__(self):
        name = "h2+tls" if self.is_http2 else "h1+tls" if self.is_tls else "h1"
        return name if self.streams_per_connection == 1 else f"{name}/{self.streams_per_connection}"


class Client:
    """One connection with its streams."""

    def __init__(self, mode, context, paths):
        self.mode, self.context, self.paths = mode, context, paths
        self.phase, self.ready, self.deliveries = "connecting", 0, 0
        self.frames, self.tail = wire.FrameReader(), b""
        self.socket = None

    def connect(self, port):
        self.socket = dial(port)

    def wants(self):
        if self.phase == "connecting" or self.phase == "shaking for writing":
            return selectors.EVENT_WRITE
        return selectors.EVENT_READ

    def go_on(self):
        """Does what can be done now."""
        if self.phase == "connecting":
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise Failed(f"connect: {os.strerror(error)}")
            if not self.mode.is_tls:
                return self.request()
            self.socket = self.context.wrap_socket(self.socket, do_handshake_on_connect=False)
            self.phase = "shaking"
        if self.phase.startswith("shaking"):
            try:
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                self.phase = "shaking"
                return None
            except ssl.SSLWantWriteError:
                self.phase = "shaking for writing"
                return None
            return self.request()
        return self.read()

    def request(self):
        if self.mode.is_http2:
            requests = [wire.http2_request(2 * at + 1, path) for at, path in enumerate(self.paths)]
            self.socket.sendall(wire.opening() + b"".join(requests))
        else:
            self.socket.sendall(wire.http1_request(self.paths[0]))
        self.phase = "open"

    def read(self):
        try:
            received = self.socket.recv(262144)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        if not received:
            raise Failed("the gateway has closed a connection")
        while self.mode.is_tls and self.socket.pending():
            received += self.socket.recv(262144)
        if not self.mode.is_http2:
            # An event is one line of data; its beginning may come in two reads.
            text = self.tail + received
            self.count(text)
            self.tail = text[-6:] if not text.endswith(b"\n") else b""
            return
        for kind, flags, _, payload in self.frames.frames(received):
            if kind == wire.DATA:
                self.count(payload)
            elif kind == wire.SETTINGS and not flags & wire.ACK:
                self.socket.sendall(wire.frame(wire.SETTINGS, wire.ACK, 0))
            elif kind == wire.PING and not flags & wire.ACK:
                self.socket.sendall(wire.frame(wire.PING, wire.ACK, 0, payload))
            elif kind in (wire.GOAWAY, wire.RST_STREAM):
                raise Failed(f"the gateway has ended a stream or its connection: frame {kind}, {payload!r}")

    def count(self, text):
        self.deliveries += text.count(b"data: ")
        if self.ready < len(self.paths):
            self.ready += text.count(b": ready")


def wire_figures(client):
    """Bytes and segments that this socket has received so far (`TCP_INFO`): below TLS."""
    info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    # tcpi_bytes_received, and tcpi_segs_in with tcpi_data_segs_in behind tcpi_notsent_bytes and tcpi_min_rtt.
    return struct.unpack_from("Q", info, 128)[0], struct.unpack_from("I", info, 152)[0]


class Worker:
    """The loop of one process. It is told what to do over a pipe."""

    def __init__(self, pipe, cores):
        self.pipe = pipe
        if cores:
            os.sched_setaffinity(0, cores)
        more_files()
        self.selector = selectors.EpollSelector()
        self.selector.register(pipe, selectors.EVENT_READ)
        self.clients, self.waiting, self.on_their_way = [], [], set()
        self.port = None

    def run(self):
        try:
            while True:
                for key, _ in self.selector.select(None):
                    if key.data is None:
                        if not self.obey(*self.pipe.recv()):
                            return
                    elif key.data.socket.fileno() >= 0:
                        # Not one that an order in the same turn has closed.
                        self.serve(key.data)
        except (Failed, OSError) as error:
            self.pipe.send(("failed", str(error)))

    def obey(self, order, *arguments):
        if order == "open":
            self.open(*arguments)
        elif order == "count":
            figures = [wire_figures(client) for client in self.clients[:50]]
            self.pipe.send(("count", sum(client.deliveries for client in self.clients),
                            sum(bytes for bytes, _ in figures), sum(segments for _, segments in figures),
                            sum(client.deliveries for client in self.clients[:50])))
        elif order == "close":
            for client in self.clients:
                self.selector.unregister(client.socket)
                client.socket.close()
            self.clients = []
            self.pipe.send(("closed",))
        return order != "end"

    def open(self, port, mode, streams):
        """Opens a connection for each list of paths in `streams`."""
        context = None
        if mode.is_tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2" if mode.is_http2 else "http/1.1"])
        self.port = port
        self.waiting = [Client(mode, context, paths) for paths in reversed(streams)]
        self.connect_more()

    def connect_more(self):
        while self.waiting and len(self.on_their_way) < OPENING:
            client = self.waiting.pop()
            client.connect(self.port)
            self.clients.append(client)
            self.on_their_way.add(client)
            self.selector.register(client.socket, client.wants(), client)
        if not self.waiting and not self.on_their_way:
            self.pipe.send(("open",))

    def serve(self, client):
        before, wanted = client.socket, client.wants()
        client.go_on()
        if client.socket is not before:
            self.selector.unregister(before if before.fileno() >= 0 else client.socket)
            self.selector.register(client.socket, client.wants(), client)
        elif client.wants() != wanted:
            self.selector.modify(client.socket, client.wants(), client)
        if client in self.on_their_way and client.ready >= len(client.paths):
            self.on_their_way.remove(client)
            self.connect_more()


class Load:
    """All clients of a measurement."""

    def __init__(self, cores=None):
        self.cores, self.workers = cores, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process, pipe in self.workers:
            try:
                pipe.send(("end",))
                process.join(5)
            except OSError:
                pass
            process.kill()

    def open(self, port, mode, streams, channels, channels_per_stream=1):
        """Opens so many streams, and waits until all of them are ready."""
        paths = []
        for stream in range(streams):
            at = stream * channels_per_stream
            own = (channels[(at + number) % len(channels)] for number in range(channels_per_stream))
            paths.append("/events?" + "&".join(f"channel={name}" for name in own))
        each = mode.streams_per_connection
        connections = [paths[at:at + each] for at in range(0, streams, each)]
        parts = [connections[at:at + MOST_CONNECTIONS] for at in range(0, len(connections), MOST_CONNECTIONS)]
        while len(self.workers) < len(parts):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=lambda: Worker(theirs, self.cores).run(), daemon=True)
            process.start()
            self.workers.append((process, ours))
        for (_, pipe), part in zip(self.workers, parts):
            if pipe.poll(0):
                self.answer(pipe, "nothing", 0)
            pipe.send(("open", port, mode, part))
        for (_, pipe), _ in zip(self.workers, parts):
            self.answer(pipe, "open", 300)
        return len(connections)

    def count(self):
        """Deliveries so far; and of a sample of connections: bytes, segments and deliveries."""
        for _, pipe in self.workers:
            pipe.send(("count",))
        answers = [self.answer(pipe, "count", 30) for _, pipe in self.workers]
        return tuple(sum(values) for values in zip(*answers))

    def wait_for(self, deliveries, within=60.0):
        """Waits until so many events have come."""
        end = time.monotonic() + within
        while (count := self.count()[0]) < deliveries:
            if time.monotonic() > end:
                raise Failed(f"only {count} of {deliveries} events have come")
            time.sleep(0.05)
        return count

    def close(self):
        for _, pipe in self.workers:
            pipe.send(("close",))
        for _, pipe in self.workers:
            self.answer(pipe, "closed", 60)

    @staticmethod
    def answer(pipe, kind, within):
        if not pipe.poll(within):
            raise Failed(f"the clients did not say within {within} s that they have done: {kind}")
        answer = pipe.recv()
        if answer[0] != kind:
            raise Failed(" ".join(map(str, answer)))
        return answer[1:]
