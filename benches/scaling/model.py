"""The model: what so many streams, channels and messages take of so many gateways and of their Redis. No I/O.

All of it is in seconds, bytes, and processors (1.0 is one that is busy all the time). What one thing costs comes from
the constants, which `benches/scale measure` fits; what the protocols and the gateway do is written here:

- A channel is at a gateway if one of its streams is. Streams are spread evenly over the gateways.
- Redis sends a message once to each gateway that has its channel; the gateway writes it once to each connection that
  has a stream of the channel, whatever the number of streams there (HTTP/2).
- A message that comes alone wakes Redis and the gateway; of many in a second, some come together
  (`woken`): an average over evenly spread messages. What is woken begins with cold caches (`cold`), the less so the
  shorter it slept.
- A stream that was quiet for `keep_alive` is sent a comment.
- Every five seconds a gateway asks Redis for each of its channels, 512 in a command, and publishes a probe. While
  messages come, the gateways publish about one mark in a second, together.
"""

import math
from dataclasses import dataclass, replace

#: How often a gateway compares its subscriptions with those that Redis has, and names in one command of it.
CHECK_SECONDS, CHECK_NAMES = 5.0, 512
#: Connections to Redis of one gateway: the subscriptions, the self-check, marks.
REDIS_CONNECTIONS = 3
#: Subscriptions of a gateway beside its channels: marks, what gateways say to one another, probes.
OWN_SUBSCRIPTIONS = 3
#: Ethernet (preamble, header, checksum, gap), IPv4, TCP with time stamps: for each segment.
SEGMENT_BYTES, SEGMENT_PAYLOAD = 38 + 20 + 32, 1448
#: What a message of RESP3 has around the name of the channel and the payload.
PUSH_BYTES = 36
CHANNEL_NAME_BYTES = 15
TLS_RECORD_PAYLOAD = 16384


@dataclass(frozen=True)
class Load:
    """What is asked of the service."""

    streams: int
    #: Different channels, over all streams.
    channels: int
    #: Messages published in a second, over all channels.
    rate: float
    payload: int = 200
    channels_per_stream: int = 1
    protocol: str = "h2+tls"
    streams_per_connection: int = 1
    #: How long a stream is open before its client goes and another comes; 0: they stay.
    session: float = 0.0
    #: The messages of a channel come evenly, as those of a measurement do, and not at random moments.
    is_regular: bool = False

    @property
    def fan_out(self):
        """Streams that a message goes to."""
        return self.streams * self.channels_per_stream / self.channels

    def times(self, factor):
        """The same with more of everything."""
        return replace(self, streams=round(self.streams * factor), channels=round(self.channels * factor),
                       rate=self.rate * factor)


@dataclass(frozen=True)
class Fleet:
    """What serves it."""

    gateways: int = 4
    cores: int = 4
    memory: float = 16 * 2.0**30
    #: Open files of one gateway.
    files: int = 200_000
    #: Bytes in a second that the network of one host carries.
    network: float = 10e9 / 8
    keep_alive: float = 15.0
    history_count: int = 1000
    history_age: float = 300.0
    history_memory: float = 256 * 2.0**20
    max_channels: int = 100_000
    #: How long a channel stays after its last client.
    linger: float = 300.0
    #: Addresses that a load balancer connects from to one gateway; 0: clients connect themselves.
    balancer_addresses: int = 0
    #: Servers among which the channels are divided evenly by their names.
    redis_servers: int = 1
    #: The share of a resource that a plan uses, at most.
    headroom: float = 0.7


@dataclass(frozen=True)
class Gateway:
    """What one gateway has and takes: processors by what they do, bytes of memory by what they are for."""

    streams: float
    connections: float
    channels: float
    heard: float
    deliveries: float
    writes: float
    cpu: dict
    memory: dict
    kernel: float
    out_bytes: float
    redis_in_bytes: float

    @property
    def cores(self):
        return sum(self.cpu.values())

    @property
    def memory_bytes(self):
        return sum(self.memory.values())


@dataclass(frozen=True)
class Redis:
    """What each Redis server has and does in a second."""

    connections: float
    subscriptions: float
    published: float
    marks: float
    sent: float
    checks: float
    cpu: float
    out_bytes: float


def woken(rate, half):
    """How often so many messages in a second wake who waits for them: all of few, `half` of very many."""
    return rate / (1 + rate / half)


def cold(cpu, kind, writes):
    """What a burst of so many writes costs beyond them, because it finds nothing in the caches: each write of a short
    burst, no more and no more of a longer one."""
    return cpu["cold"][kind] * writes / (1 + writes / cpu["burst_half"])


def share_with(load, gateways):
    """The share of the channels that one of so many gateways has."""
    per_channel = load.streams * load.channels_per_stream / load.channels
    return 1 - (1 - 1 / gateways) ** per_channel if gateways > 1 else min(1.0, per_channel)


def keep_alives(rate, period, is_regular=False):
    """Comments in a second on a stream that gets `rate` events in a second: at random moments, or evenly."""
    if is_regular and rate:
        return rate * max(0, math.ceil(1 / (rate * period) - 1e-9) - 1)
    if rate * period > 700:
        return 0.0
    return 1 / period if rate == 0 else rate / math.expm1(rate * period)


def gateway(constants, load, fleet):
    """One of `fleet.gateways` that share `load`."""
    cpu, memory, wire = constants["cpu"], constants["memory"], constants["wire"]
    kind, each = load.protocol, load.streams_per_connection
    streams = load.streams / fleet.gateways
    connections = streams / each
    share = share_with(load, fleet.gateways)
    channels = load.channels * share
    heard = load.rate * share
    deliveries = load.rate * load.fan_out / fleet.gateways
    local = deliveries / heard if heard else 0.0
    reached = 1 - (1 - min(1.0, local / streams)) ** each if streams else 0.0
    writes = heard * connections * reached
    quiet = streams * keep_alives(deliveries / streams if streams else 0.0, fleet.keep_alive, load.is_regular)
    come = streams / load.session if load.session else 0.0
    anew = min(1.0, channels / max(streams * load.channels_per_stream, 1)) * load.channels_per_stream
    lingering = come * anew * fleet.linger
    used = {
        "idle": cpu["idle"],
        "messages": heard * cpu["message"] + woken(heard, cpu["rate_half"]) * cpu["wake"]
        + (woken(heard, cpu["cold_half"]) * cold(cpu, kind, writes / heard) if heard else 0.0),
        "deliveries": writes * cpu["write"][kind] + deliveries * (
            (cpu["frame"] if kind == "h2+tls" else 0.0) + load.payload * cpu["byte"][kind]),
        "keep-alives": quiet * cpu["keep_alive"][kind],
        "self-check": channels / CHECK_SECONDS * cpu["check_name"],
        "clients that come and go": come * (arriving(cpu, load, come) + anew * cpu["channel"]),
    }
    kept = min(fleet.history_count, load.rate / load.channels * fleet.history_age)
    held = {
        "process": memory["process"],
        "connections": connections * memory["connection"][kind]
        + (streams * memory["stream"] if kind == "h2+tls" else 0.0),
        "channels": (channels + lingering) * memory["channel"],
        "histories": min(fleet.history_memory, (channels + lingering) * kept * (memory["event"] + load.payload)),
    }
    event = load.payload + wire["event"][kind]
    record = wire["record"] if kind != "h1" else 0
    per_write = deliveries / writes * event if writes else 0.0
    records = max(1, math.ceil(per_write / TLS_RECORD_PAYLOAD))
    segments = max(1, math.ceil(per_write / SEGMENT_PAYLOAD))
    return Gateway(
        streams=streams, connections=connections, channels=channels + lingering, heard=heard, deliveries=deliveries,
        writes=writes, cpu=used, memory=held, kernel=connections * constants["kernel"]["socket"],
        out_bytes=deliveries * event + writes * (records * record + segments * SEGMENT_BYTES)
        + quiet * (wire["event"][kind] - wire["text"] + 2 + record + SEGMENT_BYTES),
        redis_in_bytes=heard * (load.payload + CHANNEL_NAME_BYTES + PUSH_BYTES),
    )


def opening(cpu, load):
    """Seconds of a processor for a stream that is opened and closed, with its part of the connection."""
    kind, each = load.protocol, load.streams_per_connection
    connection = (cpu["connection"][kind] + cpu["close"][kind]) / each
    return connection + (cpu["stream"] if kind == "h2+tls" else 0.0)


def arriving(cpu, load, rate):
    """The same of one of `rate` in a second that come to a gateway: one that comes alone wakes it."""
    return opening(cpu, load) + (woken(rate, cpu["rate_half"]) / rate * cpu["wake"] if rate else 0.0)


def redis(constants, load, fleet):
    """Each Redis server of the fleet: it has its part of the channels, and marks of its own."""
    costs = constants["redis"]
    one = gateway(constants, load, fleet)
    listeners, gateways = share_with(load, fleet.gateways) * fleet.gateways, fleet.gateways
    rate, channels = load.rate / fleet.redis_servers, one.channels / fleet.redis_servers
    marks = min(1.0, rate)
    checks = gateways * (math.ceil(channels / CHECK_NAMES) + 2) / CHECK_SECONDS
    sent = rate * listeners + marks * gateways
    messages = rate + marks
    come = one.cpu["clients that come and go"] and load.streams / load.session / fleet.redis_servers
    anew = min(1.0, one.channels / max(one.streams, 1))
    cpu = (costs["idle"] + messages * costs["message"] + sent * costs["listener"]
           + woken(messages, costs["rate_half"]) * (costs["wake"] + costs["listener_wake"] * sent / max(messages, 1e-9))
           + gateways * channels / CHECK_SECONDS * costs["check_name"]
           + gateways * costs["gateway"] + come * anew * costs["subscribe"])
    return Redis(
        connections=gateways * REDIS_CONNECTIONS,
        subscriptions=gateways * (channels + OWN_SUBSCRIPTIONS),
        published=rate, marks=marks, sent=sent, checks=checks, cpu=cpu,
        out_bytes=sent * (load.payload + CHANNEL_NAME_BYTES + PUSH_BYTES),
    )


#: Servers that `redis.shards` takes, at most.
MOST_SHARDS = 32
#: Ports that Linux hands out for outgoing connections, to one address and port.
EPHEMERAL_PORTS = 28_232


@dataclass(frozen=True)
class Use:
    """How much of something is used: `of` is its name, `limit` what is there of it."""

    of: str
    used: float
    limit: float
    #: Whether more gateways help.
    is_shared: bool = True

    @property
    def share(self):
        return self.used / self.limit


def uses(constants, load, fleet):
    """Everything that has a limit, that of which most is used first."""
    one, server = gateway(constants, load, fleet), redis(constants, load, fleet)
    queues = constants["memory"]["queues"]
    found = [
        Use("processors of a gateway", one.cores, fleet.cores),
        Use("busiest thread of a gateway (Redis to shards)", one.cpu["messages"] + one.cpu["self-check"], 1.0),
        Use("memory of a gateway's host", one.memory_bytes + queues + one.kernel, fleet.memory),
        Use("open files of a gateway", one.connections + constants["files"], fleet.files),
        Use("network of a gateway's host", one.out_bytes + one.redis_in_bytes, fleet.network),
        Use("max_channels of a gateway", one.channels, fleet.max_channels),
        Use(f"processor of {redis_name(fleet)}", server.cpu, 1.0, is_shared=False),
        Use(f"network of {redis_name(fleet)}", server.out_bytes, fleet.network, is_shared=False),
    ]
    if fleet.balancer_addresses:
        ports = EPHEMERAL_PORTS * fleet.balancer_addresses
        found.append(Use("ports of the load balancer to a gateway", one.connections, ports))
    return sorted(found, key=lambda use: -use.share)


def redis_name(fleet):
    return "Redis" if fleet.redis_servers == 1 else "each Redis server"


def redis_servers_for(constants, load, fleet):
    """The fewest Redis servers that stay below the headroom; None if `redis.shards` does not take so many."""
    for count in range(1, MOST_SHARDS + 1):
        here = uses(constants, load, replace(fleet, redis_servers=count))
        if all(use.share <= fleet.headroom for use in here if not use.is_shared):
            return count
    return None


def gateways_for(constants, load, fleet, most=10_000):
    """The fewest gateways of this size with which everything that they share stays below the headroom while one of
    them is away; None if that is more than `most`."""
    def is_enough(count):
        rest = replace(fleet, gateways=count - 1)
        return all(use.share <= fleet.headroom for use in uses(constants, load, rest) if use.is_shared)

    if not is_enough(most):
        return None
    below, enough = 1, most
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if is_enough(middle) else (middle, enough)
    return enough
