"""Clients as browsers are: each remembers its last id and its `retry`, comes back, and counts what it gets."""

import heapq
import itertools
import os
import selectors
import time
from collections import Counter

from scaling import wire
from scaling.machine import dial, more_files

#: Connections of one process that are on their way at once.
OPENING = 128
#: A browser gives up on this; it must not happen.
REFUSED_WAIT = 1.0
#: Greater than the number of any message.
NO_MESSAGE = 1 << 60


class Sequence:
    """What one client has received of its channel, whose messages are numbered from 1. No I/O."""

    def __init__(self):
        self.last, self.was_told = 0, False
        self.lost = self.repeated = self.received = 0
        self.gaps = Counter()

    def message(self, number):
        """A message has come."""
        self.received += 1
        if number <= self.last:
            self.repeated += 1
            return
        if not self.was_told:
            self.lost += number - self.last - 1
        self.last, self.was_told = number, False

    def gap(self, reason):
        """The client was told that something may be missing from here."""
        self.gaps[reason] += 1
        self.was_told = True


class Sailor:
    """One client."""

    def __init__(self, path, retry):
        self.path, self.retry = path, retry
        self.sequence = Sequence()
        self.last_id = None
        self.socket = None
        self.left = None

    def embark(self, port):
        self.socket = dial(port)
        self.head, self.body, self.is_asked = b"", None, False
        self.events = wire.EventReader(self.last_id)

    def read(self):
        """Reads what has come. Returns None while the stream goes on, and otherwise how it ended."""
        try:
            received = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return "cut"
        if not received:
            return "cut"
        if self.body is None:
            self.head += received
            head, found, received = self.head.partition(b"\r\n\r\n")
            if not found:
                return None
            status = head.split(b" ", 2)[1].decode()
            if status != "200":
                return f"status {status}"
            self.body = wire.Body(head)
        for name, data in self.events.events(self.body.text(received)):
            if name == "gap":
                self.sequence.gap(data.split('"reason":"')[1].split('"')[0])
            else:
                self.sequence.message(int(data.split(" ", 1)[0]))
        self.last_id = self.events.last_id
        if self.events.retry is not None:
            self.retry = self.events.retry
        return "ended" if self.body.has_ended else None


class Crew:
    """The clients of one process, and their loop. It is told what to do over a pipe."""

    def __init__(self, pipe, port, paths, retry):
        self.pipe, self.port = pipe, port
        self.sailors = [Sailor(path, retry) for path in paths]
        self.selector = selectors.EpollSelector()
        self.selector.register(pipe, selectors.EVENT_READ)
        self.order = itertools.count()
        self.ashore = [(0.0, next(self.order), sailor) for sailor in self.sailors]
        self.on_their_way, self.ready = set(), set()
        self.ends, self.refused = Counter(), Counter()
        self.away, self.back = set(), []

    def run(self):
        while True:
            now = time.monotonic()
            while self.ashore and self.ashore[0][0] <= now and len(self.on_their_way) < OPENING:
                sailor = heapq.heappop(self.ashore)[2]
                sailor.embark(self.port)
                self.on_their_way.add(sailor)
                self.selector.register(sailor.socket, selectors.EVENT_WRITE, sailor)
            for key, _ in self.selector.select(0.02 if self.ashore else 0.5):
                if key.data is None:
                    order = self.pipe.recv()
                    if order == "end":
                        return
                    self.pipe.send(self.report() if order == "report" else self.begin_phase())
                else:
                    self.serve(key.data)

    def serve(self, sailor):
        if not sailor.is_asked:
            sailor.is_asked = True
            try:
                sailor.socket.send(wire.http1_request(sailor.path, sailor.last_id))
            except OSError:
                return self.ashore_again(sailor, "cut")
            self.selector.modify(sailor.socket, selectors.EVENT_READ, sailor)
            return None
        end = sailor.read()
        if end:
            return self.ashore_again(sailor, end)
        if sailor.events.is_ready and sailor not in self.ready:
            self.ready.add(sailor)
            self.on_their_way.discard(sailor)
            if sailor in self.away:
                self.away.remove(sailor)
                self.back.append(time.monotonic() - sailor.left)
                self.last_back = time.monotonic()
        return None

    def ashore_again(self, sailor, how):
        self.selector.unregister(sailor.socket)
        sailor.socket.close()
        self.ready.discard(sailor)
        self.on_their_way.discard(sailor)
        self.ends[how] += 1
        wait = sailor.retry
        if how.startswith("status"):
            self.refused[how] += 1
            wait = REFUSED_WAIT
        # One that was told to come later had no stream yet.
        if how == "ended" and sailor.events.is_ready and sailor not in self.away:
            sailor.left = time.monotonic()
            self.away.add(sailor)
        heapq.heappush(self.ashore, (time.monotonic() + wait, next(self.order), sailor))

    last_back = 0.0

    def begin_phase(self):
        self.back, self.last_back = [], 0.0
        return None

    def report(self):
        """What all of them have seen so far, and who is where."""
        sequences = [sailor.sequence for sailor in self.sailors]
        return {
            "ready": len(self.ready), "away": len(self.away), "moved": len(self.back),
            "last_back": self.last_back, "longest": max(self.back, default=0.0),
            "received": sum(one.received for one in sequences), "lost": sum(one.lost for one in sequences),
            "repeated": sum(one.repeated for one in sequences), "ends": self.ends, "refused": self.refused,
            "gaps": sum((one.gaps for one in sequences), Counter()),
            "least": min_by_path(self.sailors),
        }


def min_by_path(sailors):
    """Of each path: the last message that all of its clients have, but for those that were told of a gap since."""
    least = {}
    for sailor in sailors:
        last = NO_MESSAGE if sailor.sequence.was_told else sailor.sequence.last
        least[sailor.path] = min(least.get(sailor.path, NO_MESSAGE), last)
    return least


def sail(pipe, port, paths, retry, cores):
    """The clients, as a process."""
    if cores:
        os.sched_setaffinity(0, cores)
    more_files()
    Crew(pipe, port, paths, retry).run()
