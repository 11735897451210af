"""Redis, spoken in RESP2: publishes at a rate, listens, asks for figures."""

import re
import socket
import time


#: Messages in a second up to which none waits for another.
ONE_BY_ONE = 500


class RedisClient:
    """One connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def close(self):
        self.reader.close()
        self.socket.close()

    def send(self, *commands):
        """Sends commands without waiting for their replies."""
        self.socket.sendall(b"".join(encode(words) for words in commands))

    def reply(self):
        """The next reply: text, a number, or a list."""
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.reader.read(length + 2)[:-2].decode()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        raise OSError(f"Redis says {line!r}")

    def ask(self, *words):
        self.send(words)
        return self.reply()

    def calls(self):
        """How often each command was called so far."""
        found = re.findall(r"^cmdstat_([^:]+):calls=(\d+)", self.ask("INFO", "commandstats"), re.M)
        return {name: int(calls) for name, calls in found}


class Publisher:
    """Publishes at a rate, on one channel after the other. What is published comes from `payload(channel, number)`."""

    def __init__(self, port, channels, payload):
        self.redis = RedisClient(port)
        self.channels, self.payload = channels, payload
        self.published = 0

    def run(self, rate, seconds, stop=lambda: False):
        """Publishes evenly; returns how many messages. Of few in a second no two come together, however busy the
        machine is; of many, what was due is sent at once."""
        start, sent, heard = time.monotonic(), 0, 0
        while True:
            elapsed = min(time.monotonic() - start, seconds)
            due = int(elapsed * rate)
            if due > sent:
                if rate <= ONE_BY_ONE and due > sent + 1:
                    start += (due - sent - 1) / rate
                    due = sent + 1
                self.send(due - sent)
                sent = due
            while sent - heard > 256:
                self.redis.reply()
                heard += 1
            if elapsed >= seconds or stop():
                break
            time.sleep(max(0.0005, min(start + (sent + 1) / rate - time.monotonic(), 0.05)))
        while heard < sent:
            self.redis.reply()
            heard += 1
        return sent

    def send(self, count):
        commands = []
        for number in range(self.published, self.published + count):
            channel = number % len(self.channels)
            text = self.payload(channel, number // len(self.channels))
            commands.append(("PUBLISH", self.channels[channel], text))
        self.redis.send(*commands)
        self.published += count


def encode(words):
    """A command as RESP."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
