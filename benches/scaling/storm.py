"""What it takes until all are back: after a gateway has drained, after one has died, after a deploy of all. No I/O.

- A gateway that drains ends its streams evenly over `drain`, each with a `retry` between once and twice the route's
  (`jittered`). A gateway that dies tells nobody: all its clients come after `retry`, at once.
- A load balancer sends who comes to the gateway with the fewest streams (leastconn). So in a deploy in which a new
  gateway is started before the old one drains, all streams go to the new one, and each is moved once. Where gateways
  are stopped before they are started again, the first one's streams go to the others; what the next one drains goes to
  the one before it, which has just started; and the last one is empty until clients come, or `max_stream_age` has
  moved some.
- Who comes costs what `model.arriving` says. What gateways have left beside their load limits how fast that goes.
"""

import math
from dataclasses import dataclass, replace

from scaling import model

#: Connections that wait to be accepted, as `sockets.backlog` has it by default: one that finds no room is tried again
#: by its client's kernel after a second.
BACKLOG, AGAIN = 4096, 1.0
#: Channels that a gateway that starts is told by the others; what was published on more of them is a gap there.
CHANNELS_TOLD = 10_000


@dataclass(frozen=True)
class Patience:
    """How clients and gateways take their time, in seconds."""

    retry: float = 3.0
    drain: float = 10.0
    #: From the start of a process until the balancer sends it clients.
    start: float = 5.0
    #: `drain_delay`.
    delay: float = 0.0
    #: From the death of a gateway until its clients and the balancer have noticed it.
    notice: float = 0.0


@dataclass(frozen=True)
class Storm:
    """Streams that come back, and how long that takes."""

    streams: float
    #: Seconds of processors that it takes, on all gateways that take part.
    cpu: float
    #: Seconds until the last one is back.
    seconds: float
    #: What decides that: `clients` (how long they wait), `processors`, `Redis`, or the `backlog` of listeners.
    limit: str
    #: Streams in a second at the busiest moment.
    per_second: float
    #: Subscriptions that Redis is asked for, and the seconds that takes of it.
    subscriptions: float
    redis_cpu: float


def drained(constants, load, fleet, patience):
    """One gateway drains; the others take its streams."""
    # As many come in a second as are sent away.
    return lost(constants, load, fleet, patience.drain, patience.drain + 2 * patience.retry)


def died(constants, load, fleet, patience):
    """One gateway dies; the others take its streams, all at once."""
    return lost(constants, load, fleet, 0.0, patience.notice + patience.retry)


def lost(constants, load, fleet, over, at_least):
    """The streams of one gateway come to the others."""
    rest = replace(fleet, gateways=max(fleet.gateways - 1, 1))
    before, after = (model.share_with(load, count) for count in (fleet.gateways, rest.gateways))
    new = load.channels * max(after - before, 0.0)
    return storm(constants, load, rest, load.streams / fleet.gateways, over, at_least, new)


def restarted(constants, load, fleet, patience):
    """All gateways die, and start again: all streams come at once."""
    new = load.channels * model.share_with(load, fleet.gateways)
    return storm(constants, load, fleet, load.streams, 0.0, patience.start + patience.retry, new)


def storm(constants, load, fleet, streams, over, at_least, new):
    """So many streams come to a fleet, evenly `over` seconds, the last `at_least` so late; with channels that are new
    to each gateway."""
    cpu, takers = constants["cpu"], fleet.gateways
    each = model.arriving(cpu, load, streams / takers / over) if over else model.opening(cpu, load)
    work = streams * each + takers * new * cpu["channel"]
    free = max(fleet.cores - model.gateway(constants, load, fleet).cores, 0.01) * takers
    redis_cpu = takers * new * constants["redis"]["subscribe"]
    redis_free = 1.0 - model.redis(constants, load, fleet).cpu
    # A Redis that has nothing left never comes to it.
    redis_takes = redis_cpu / fleet.redis_servers / redis_free if redis_free > 0 else math.inf if new >= 1 else 0.0
    takes = {"processors": work / free, "Redis": redis_takes}
    busy = max(takes.values())
    late, limit = max(busy - over, 0.0), "clients"
    if late > at_least / 2:
        limit = max(takes, key=takes.get)
    at_once = streams / load.streams_per_connection / takers if over == 0 else 0.0
    if at_once > BACKLOG and late < AGAIN:
        late, limit = AGAIN, "backlog"
    return Storm(
        streams=streams, cpu=work, seconds=at_least + late, limit=limit, per_second=streams / max(over, busy, 1e-9),
        subscriptions=takers * new, redis_cpu=redis_cpu)


@dataclass(frozen=True)
class Deploy:
    """A deploy of all gateways, one after the other."""

    seconds: float
    #: How often a stream is moved, on average.
    moves: float
    streams: float
    cpu: float
    #: Streams of the busiest gateway meanwhile.
    most_streams: float
    subscriptions: float
    #: Channels of a gateway of which a new one is not told: on those a client that comes back may be told a gap.
    untold: float


def deployed(constants, load, fleet, patience, is_in_place=False):
    """Each gateway is replaced by one that was started before; or stopped, and started again."""
    count = fleet.gateways
    at = [load.streams / count] * count
    moved, most = 0.0, at[0]
    for number in range(count):
        leaving, at[number] = at[number], 0.0
        moved += leaving
        if is_in_place:
            pour(at, number, leaving)
        else:
            at.append(0.0)
            pour(at, number, leaving)
            at[number] = at.pop()
        most = max(most, *at)
    takers = replace(fleet, gateways=max(count - 1, 1)) if is_in_place else fleet
    channels = load.channels * model.share_with(load, count)
    # What a gateway had is subscribed to once, by whoever takes it.
    one = storm(constants, load, takers, moved / count, patience.drain, patience.drain + 2 * patience.retry,
                channels / takers.gateways)
    return Deploy(
        seconds=count * (patience.start + patience.delay + one.seconds), moves=moved / load.streams, streams=moved,
        cpu=count * one.cpu,
        most_streams=most, subscriptions=count * channels, untold=max(0.0, channels - CHANNELS_TOLD))


def pour(levels, without, amount):
    """Spreads `amount` over the lowest of the levels but one, as leastconn does."""
    others = sorted((level, place) for place, level in enumerate(levels) if place != without)
    if not others:
        levels[without] += amount
        return
    for count in range(1, len(others) + 1):
        total = sum(level for level, _ in others[:count]) + amount
        if count == len(others) or total / count <= others[count][0]:
            for _, place in others[:count]:
                levels[place] = total / count
            return
