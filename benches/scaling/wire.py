"""HTTP/2 frames and event streams as far as a client of a bench needs them. No I/O."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_WINDOW = (1 << 31) - 1
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = 1
END_STREAM_AND_HEADERS = 5
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def opening():
    """What a client sends first: windows so large that none is ever used up in a measurement."""
    settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, MOST_WINDOW)
    more = struct.pack(">I", MOST_WINDOW - 65535)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more)


def literal(name, value):
    """A header field that no table is needed for (RFC 7541, section 6.2.2)."""
    out = b"\x00"
    for text in (name.encode(), value.encode()):
        out += bytes([len(text)]) if len(text) < 127 else bytes([127, len(text) - 127])
        out += text
    return out


def http2_request(stream, path):
    """GET over HTTP/2, as an event source sends it."""
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path),
              ("accept", "text/event-stream"), ("cache-control", "no-cache")]
    return frame(HEADERS, END_STREAM_AND_HEADERS, stream, b"".join(literal(*field) for field in fields))


def http1_request(path, last_id=None):
    """GET over HTTP/1.1, as a browser's event source sends it."""
    last = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    return (f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n"
            f"User-Agent: Mozilla/5.0 (bench)\r\n{last}\r\n").encode()


class FrameReader:
    """Bytes of a server to frames."""

    def __init__(self):
        self.rest = b""

    def frames(self, received):
        """The whole frames so far: kind, flags, stream, payload."""
        data, at = self.rest + received, 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at:at + 3], "big")
            if len(data) - at < 9 + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", data, at + 3)
            yield kind, flags, stream, data[at + 9:at + 9 + length]
            at += 9 + length
        self.rest = data[at:]


class Body:
    """The body of a response of HTTP/1.1: chunked, or of a length (RFC 9112, sections 6 and 7.1)."""

    def __init__(self, head):
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        length = fields.get(b"content-length")
        self.is_chunked = length is None
        self.rest, self.left = b"", int(length) if length else 0
        self.has_ended = not self.is_chunked and self.left == 0

    def text(self, received):
        """What of the body has come."""
        if self.is_chunked:
            return self.chunks(received)
        text = received[:self.left]
        self.left -= len(text)
        self.has_ended = self.left == 0
        return text

    def chunks(self, received):
        # `left` is what is missing of the chunk, with the line's end behind it.
        data, out = self.rest + received, []
        while data and not self.has_ended:
            if self.left:
                part = data[:self.left]
                out.append(part[:max(self.left - 2, 0)])
                self.left -= len(part)
                data = data[len(part):]
                continue
            line, found, rest = data.partition(b"\r\n")
            if not found:
                break
            size = int(line.split(b";")[0], 16)
            data = rest
            self.has_ended, self.left = size == 0, size + 2 if size else 0
        self.rest = data
        return b"".join(out)


class EventReader:
    """The text of an event stream to its events, and what a browser remembers of it."""

    def __init__(self, last_id=None):
        self.rest, self.last_id, self.retry, self.is_ready = b"", last_id, None, False
        self.fields = {}

    def events(self, text):
        """Events that are complete: their name and their data."""
        *lines, self.rest = (self.rest + text).split(b"\n")
        for line in lines:
            if not line:
                fields, self.fields = self.fields, {}
                if "id" in fields:
                    self.last_id = fields["id"]
                if "data" in fields:
                    yield fields.get("event", "message"), fields["data"]
                continue
            name, _, value = line.decode().partition(":")
            value = value.removeprefix(" ")
            if name == "":
                self.is_ready |= value == "ready"
            elif name == "retry" and value.isdigit():
                self.retry = int(value) / 1000
            elif name == "data" and "data" in self.fields:
                self.fields["data"] += "\n" + value
            else:
                self.fields[name] = value
