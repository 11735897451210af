"""A TCP proxy that delays, stalls and cuts connections at random, the same ones with the same seed."""

import os
import random
import selectors
import socket
import struct
import time
from dataclasses import dataclass

from scaling.machine import dial, more_files

TICK = 0.05
#: A connection with this much on its way to one side is not read for it until that is less.
MOST_WAITING = 1 << 20


@dataclass(frozen=True)
class Weather:
    """How often something befalls a connection, in a second; and for how many seconds."""

    delays: float = 0.02
    delay: tuple = (0.05, 0.5)
    stalls: float = 0.004
    stall: tuple = (2.0, 8.0)
    cuts: float = 0.004


class Side:
    """One end of a connection through the proxy."""

    def __init__(self, connection):
        self.socket, self.waiting, self.other, self.link = connection, b"", None, None


class Link:
    """A connection through the proxy."""

    def __init__(self, client, server):
        self.sides = Side(client), Side(server)
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]
        for side in self.sides:
            side.link = self
        self.held_until = 0.0


class BadWeather:
    """The loop of the proxy."""

    def __init__(self, listener, to, weather, seed):
        self.listener, self.to, self.weather = listener, to, weather
        self.random = random.Random(seed)
        self.selector = selectors.EpollSelector()
        self.links, self.held = [], []
        self.counts = {"delays": 0, "stalls": 0, "cuts": 0, "connections": 0}

    def run(self, pipe):
        more_files()
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, "listener")
        self.selector.register(pipe, selectors.EVENT_READ, "pipe")
        is_bad, next_tick = False, time.monotonic()
        while True:
            for key, events in self.selector.select(max(0.0, next_tick - time.monotonic())):
                if key.data == "listener":
                    self.accept()
                elif key.data == "pipe":
                    order = pipe.recv()
                    if order == "end":
                        return
                    if order == "counts":
                        pipe.send(self.counts)
                    else:
                        is_bad = order == "bad"
                elif key.data.socket.fileno() >= 0:
                    self.serve(key.data, events)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK
                self.release()
                if is_bad:
                    self.blow()

    def accept(self):
        for _ in range(64):
            try:
                client, _ = self.listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, dial(self.to))
            self.links.append(link)
            self.counts["connections"] += 1
            for side in link.sides:
                self.selector.register(side.socket, selectors.EVENT_READ, side)

    def serve(self, side, events):
        try:
            if events & selectors.EVENT_WRITE:
                self.write(side)
            if events & selectors.EVENT_READ:
                received = side.socket.recv(65536)
                if not received:
                    # Both directions: event streams need no half-closed connections.
                    self.write(side.other)
                    self.close(side.link)
                    return
                side.other.waiting += received
                self.write(side.other)
        except BlockingIOError:
            pass
        except OSError:
            self.close(side.link)

    def write(self, side):
        try:
            while side.waiting:
                sent = side.socket.send(side.waiting)
                side.waiting = side.waiting[sent:]
        except BlockingIOError:
            pass
        if side.link.held_until:
            return
        for each in side.link.sides:
            wants = selectors.EVENT_READ if len(each.other.waiting) < MOST_WAITING else 0
            wants |= selectors.EVENT_WRITE if each.waiting else 0
            if self.selector.get_key(each.socket).events != wants and wants:
                self.selector.modify(each.socket, wants, each)

    def close(self, link, at_once=False):
        for side in link.sides:
            if side.socket.fileno() < 0:
                continue
            if not link.held_until:
                self.selector.unregister(side.socket)
            if at_once:
                # A reset in place of the end of a connection.
                side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.socket.close()

    def blow(self):
        """Lets this tick's share of mishaps happen."""
        self.links = [link for link in self.links if link.sides[0].socket.fileno() >= 0]
        for what in ("delays", "stalls", "cuts"):
            expected = len(self.links) * getattr(self.weather, what) * TICK
            number = int(expected) + (self.random.random() < expected % 1)
            for link in self.random.sample(self.links, min(number, len(self.links))):
                if link.sides[0].socket.fileno() < 0 or link.held_until:
                    continue
                self.counts[what] += 1
                if what == "cuts":
                    self.close(link, at_once=self.random.random() < 0.5)
                    continue
                least, most = self.weather.delay if what == "delays" else self.weather.stall
                link.held_until = time.monotonic() + self.random.uniform(least, most)
                for side in link.sides:
                    self.selector.unregister(side.socket)
                self.held.append(link)

    def release(self):
        """Lets those go on whose time has come."""
        now, still = time.monotonic(), []
        for link in self.held:
            if link.sides[0].socket.fileno() < 0:
                continue
            if link.held_until > now:
                still.append(link)
                continue
            link.held_until = 0.0
            for side in link.sides:
                self.selector.register(side.socket, selectors.EVENT_READ, side)
            for side in link.sides:
                try:
                    self.write(side)
                except OSError:
                    self.close(link)
                    break
        self.held = still


def serve(listener, to, weather, seed, pipe, cores):
    """The proxy, as a process."""
    if cores:
        os.sched_setaffinity(0, cores)
    BadWeather(listener, to, weather, seed).run(pipe)
