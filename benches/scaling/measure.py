"""What is measured on the machine at hand: the samples that the constants of the model are fitted to."""

import os
import subprocess
import threading
import time
from contextlib import contextmanager

from scaling.bursts import KEEP_ALIVE, LARGE, PAIR, PROTOCOLS, ROOM, SMALL, STREAMS
from scaling.load import Load, Mode
from scaling.machine import SOCKET_CACHES, Site, buffer_bytes, more_files, need, say, slab_objects
from scaling.redis_client import Publisher, RedisClient

MODES = ["h1", "h1+tls", "h2+tls", "h2+tls/16"]
#: So that keep-alives are seen in a short time.
SETTINGS = f"sse: {{ keep_alive: {KEEP_ALIVE:.0f}s }}\nhistory_memory: 1GiB\n"
QUIET_SECONDS = 10.0
#: Streams on a connection, of the sample of what a stream costs to open.
SHARED_MOST = 100
#: Streams and channels of each in the sample of the self-check.
WIDE_STREAMS, WIDE_CHANNELS = 400, 50
REST = 1.0
#: Messages of the sample in which Redis has as many as it can take.
FAST_MESSAGES = 100_000


class Rig:
    """One gateway with its Redis, and the clients."""

    def __init__(self, site, load, settings=SETTINGS):
        self.site, self.load = site, load
        self.redis = site.redis()
        self.gateway = site.gateway(f"gateway-{self.redis.port}", self.redis, settings, site.own)
        self.connections = 0

    def end(self):
        self.load.close()
        for program in (self.gateway, self.redis):
            program.end()
            self.site.programs.remove(program)

    def warm_up(self, mode):
        """A stream that comes and goes, and a message: what is mapped and allocated but once is no stream's."""
        self.load.open(self.port(mode), mode, mode.streams_per_connection, ["warm"])
        Publisher(self.redis.port, ["warm"], payload(100)).run(100, 0.2)
        self.load.close()
        time.sleep(REST)

    def port(self, mode):
        return self.gateway.ports["https" if mode.is_tls else "http"]

    def open(self, mode, streams, channels):
        """Opens streams; what that took of processors and memory."""
        cpu, redis, memory, slab = self.gateway.cpu(), self.redis.cpu(), self.gateway.memory(), slab_objects()
        self.connections = self.load.open(self.port(mode), mode, streams, channels)
        time.sleep(REST)
        return {
            "open_cpu": self.gateway.cpu() - cpu,
            "open_redis_cpu": self.redis.cpu() - redis,
            "memory": self.gateway.memory() - memory,
            "kernel": kernel_growth(slab, slab_objects(), self.connections),
            "connections": self.connections,
        }

    def publish(self, channels, fan_out, rate, size, seconds):
        """Publishes; what that took."""
        self.publisher = Publisher(self.redis.port, channels, payload(size))
        # Up to speed first.
        begin = self.load.count()[0]
        warm = self.publisher.run(rate, 0.5)
        self.load.wait_for(begin + round(warm * fan_out))
        counts, memory = self.load.count(), self.gateway.memory()
        client = RedisClient(self.redis.port)
        calls, cpu, redis, start = client.calls(), self.gateway.cpu(), self.redis.cpu(), time.monotonic()
        sent = self.publisher.run(rate, seconds)
        self.load.wait_for(counts[0] + round(sent * fan_out))
        passed = time.monotonic() - start
        cpu, redis = self.gateway.cpu() - cpu, self.redis.cpu() - redis
        after = self.load.count()
        commands = client.calls()
        client.close()
        return {
            "messages": sent,
            "deliveries": after[0] - counts[0],
            "seconds": passed,
            "cpu": cpu,
            "redis_cpu": redis,
            "wire_bytes": (after[1] - counts[1]) / max(after[3] - counts[3], 1),
            "segments": (after[2] - counts[2]) / max(after[3] - counts[3], 1),
            "memory": self.gateway.memory() - memory,
            "buffers": buffer_bytes(),
            "commands": {name: number - calls.get(name, 0) for name, number in commands.items()
                         if number > calls.get(name, 0) and name not in ("info",)},
        }

    def close(self):
        """The clients leave; the seconds of the processor that this takes."""
        cpu = self.gateway.cpu()
        self.load.close()
        time.sleep(REST)
        return self.gateway.cpu() - cpu

    def quiet(self, seconds=QUIET_SECONDS):
        """Nothing is published: keep-alives, and what is checked again and again."""
        cpu, redis, start = self.gateway.cpu(), self.redis.cpu(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - start
        return {"cpu": (self.gateway.cpu() - cpu) / passed, "redis_cpu": (self.redis.cpu() - redis) / passed}


def payload(size):
    text = "x" * size
    return lambda channel, number: text


def names(prefix, count):
    """Names of channels, as long as those of users: 14 bytes."""
    return [f"{prefix}:{number:010}" for number in range(count)]


def kernel_growth(before, after, connections):
    """Bytes of kernel memory for one end of a connection; both ends are on this machine."""
    if before is None or after is None:
        return None
    grown = sum(max(0, after[cache][0] - before[cache][0]) * after[cache][1]
                for cache in SOCKET_CACHES if cache in before and cache in after)
    return grown / connections / 2 + after.get("dentry", (0, 192))[1]


@contextmanager
def rig(binary, settings=SETTINGS):
    with Site(binary) as site, Load(site.others) as load:
        yield Rig(site, load, settings)


def one_channel(binary, mode, seconds):
    """All streams on one channel: what a stream and a delivery cost."""
    with rig(binary) as stage:
        stage.warm_up(mode)
        sample = {"open": stage.open(mode, STREAMS, ["news"])}
        sample["quiet"] = stage.quiet()
        sample["small"] = stage.publish(["news"], STREAMS, 10, SMALL, seconds)
        sample["large"] = stage.publish(["news"], STREAMS, 5, LARGE, seconds)
        sample["close"] = stage.close()
        # Short bursts: a message that goes to a few streams finds nothing of it in the caches.
        for name, fan_out, rate in (("rooms", ROOM, 30), ("pairs", PAIR, 100)):
            channels = names(name, STREAMS // fan_out)
            stage.open(mode, STREAMS, channels)
            sample[name] = stage.publish(channels, fan_out, rate, SMALL, seconds)
            stage.load.close()
        return sample


def own_channels(binary, seconds):
    """A channel for each stream: what a channel and a message cost."""
    mode, channels = Mode.parse("h1"), names("user", STREAMS)
    with rig(binary) as stage:
        stage.warm_up(mode)
        sample = {"open": stage.open(mode, STREAMS, channels)}
        sample["quiet"] = stage.quiet()
        for name, rate in (("slow", 200), ("middle", 1000), ("fast", 4000), ("fastest", 12000)):
            sample[name] = stage.publish(channels, 1, rate, 100, seconds)
        return sample


def few_channels(binary):
    """Long histories: what a kept event takes of memory. And a gateway without any stream."""
    mode, channels = Mode.parse("h1"), names("room", 20)
    with rig(binary) as stage:
        stage.warm_up(mode)
        sample = {"idle": stage.quiet(), "process": stage.gateway.memory(),
                  "files": len(os.listdir(f"/proc/{stage.gateway.pid}/fd"))}
        stage.open(mode, 20, channels)
        # Up to 1,000 are kept of each channel.
        sample["kept"] = stage.publish(channels, 1, 4000, 100, 4.4)
        return sample


def many_channels(binary):
    """A gateway with many channels and few streams: what it asks Redis again and again."""
    mode, channels = Mode.parse("h1"), names("user", WIDE_STREAMS * WIDE_CHANNELS)
    with rig(binary) as stage:
        stage.warm_up(mode)
        before = stage.quiet(QUIET_SECONDS / 2)
        stage.load.open(stage.port(mode), mode, WIDE_STREAMS, channels, WIDE_CHANNELS)
        time.sleep(REST)
        return {"before": before, "quiet": stage.quiet(1.5 * QUIET_SECONDS), "streams": WIDE_STREAMS,
                "channels": len(channels)}


def often(binary, mode, seconds):
    """Bursts that follow one another sooner: the caches have less time to forget."""
    with rig(binary) as stage:
        stage.warm_up(mode)
        channels = names("rooms", STREAMS // ROOM)
        stage.open(mode, STREAMS, channels)
        return stage.publish(channels, ROOM, 150, SMALL, seconds)


def many_streams(binary):
    """Many streams on few connections: what one of them costs to open."""
    mode = Mode(True, True, SHARED_MOST)
    with rig(binary) as stage:
        stage.warm_up(mode)
        return stage.open(mode, SHARED_MOST * 100, ["news"]) | {"streams": SHARED_MOST * 100}


def redis_alone(binary, seconds):
    """Redis without a gateway: what a message costs, and each listener of it."""
    figures = {}
    with Site(binary) as site:
        redis = site.redis()
        cpu = redis.cpu()
        time.sleep(3)
        figures["idle"] = (redis.cpu() - cpu) / 3
        for listeners in (0, 8):
            clients = [RedisClient(redis.port) for _ in range(listeners)]
            for client in clients:
                client.ask("SUBSCRIBE", "news")
                threading.Thread(target=drain, args=(client.socket,), daemon=True).start()
            for rate in (100, 1000):
                publisher = Publisher(redis.port, ["news"], payload(100))
                publisher.run(rate, 0.3)
                cost, passed = cost_of(redis, figures["idle"], lambda: publisher.run(rate, seconds))
                figures.setdefault(str(rate), {"rate": rate})[str(listeners)] = cost
                publisher.redis.close()
            cost, passed = cost_of(redis, figures["idle"], lambda: as_fast_as_it_goes(redis.port))
            most = figures.setdefault("most", {"rate": FAST_MESSAGES / passed})
            most[str(listeners)] = cost
            for client in clients:
                client.close()
    return figures


def cost_of(redis, idle, publish):
    """The seconds of Redis's processor for each message that `publish` sends, and how long that took."""
    cpu, start = redis.cpu(), time.monotonic()
    sent = publish()
    passed = time.monotonic() - start
    return (redis.cpu() - cpu - idle * passed) / sent, passed


def as_fast_as_it_goes(port):
    """Fifty connections that publish one message after the other, as clients of many processes do."""
    command = [need("redis-benchmark", "redis-tools"), "-p", port, "-c", 50, "-n", FAST_MESSAGES, "-q", "PUBLISH",
               "news", "x" * 100]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=120)
    return FAST_MESSAGES


def drain(connection):
    try:
        while connection.recv(262144):
            pass
    except OSError:
        pass


def one_round(binary, modes, seconds):
    """All samples once."""
    more_files()
    sample = {}
    for name in modes:
        say(f"  one channel, {name}")
        sample[name] = one_channel(binary, Mode.parse(name), seconds)
    say("  a channel for each stream, long histories, Redis alone")
    sample["own"] = own_channels(binary, seconds)
    sample["few"] = few_channels(binary)
    sample["many"] = many_channels(binary)
    sample["crowded"] = many_streams(binary)
    for name in PROTOCOLS:
        sample[name]["often"] = often(binary, Mode.parse(name), seconds)
    sample["redis"] = redis_alone(binary, seconds)
    return sample
