"""What a message costs, and each delivery of it: alone, in a short burst, and in a long one. No I/O.

Each of these is a part of what a sample took, so that they are found by turns: from a guess of all others, each in turn.
"""

from scaling import model

PROTOCOLS = ("h1", "h1+tls", "h2+tls")
#: Streams of a sample.
STREAMS = 3000
#: Bytes of a payload.
SMALL, LARGE = 100, 5000
#: Streams that a message goes to in the samples of short bursts.
ROOM, PAIR = 100, 10
#: How long a stream is quiet before it is sent a comment, in the samples.
KEEP_ALIVE = 5.0
#: Turns until the parts do not change any more.
TURNS = 60
LEAST_BURST_HALF, MOST_BURST_HALF = 5.0, 2000.0
LEAST_COLD_HALF, MOST_COLD_HALF = 10.0, 10_000.0


class NotFitted(ValueError):
    """Samples that no constants can be fitted to; the text says what is wrong."""


def waking(samples):
    """Fits `a + b / (1 + rate / half)` to pairs of rate and seconds for a message; returns a, b, half, and the worst
    error."""
    best = None
    for step in range(0, 200):
        half = 100 * 1.03**step
        rows = [(1 / (1 + rate / half), cost) for rate, cost in samples]
        # Relative errors count, so that a rate at which a message costs little counts as much.
        weights = [1 / cost**2 for _, cost in samples]
        total = sum(weights)
        x = sum(w * r[0] for w, r in zip(weights, rows)) / total
        y = sum(w * r[1] for w, r in zip(weights, rows)) / total
        spread = sum(w * (r[0] - x) ** 2 for w, r in zip(weights, rows))
        slope = sum(w * (r[0] - x) * (r[1] - y) for w, r in zip(weights, rows)) / spread if spread else 0.0
        slope = max(slope, 0.0)
        base = y - slope * x
        if base < 0:
            continue
        error = max(abs(base + slope * r[0] - r[1]) / r[1] for r in rows)
        if best is None or error < best[3]:
            best = (base, slope, half, error)
    if best is None:
        raise NotFitted("what a message costs does not fall with the rate as the model has it")
    return best


def positive(name, value, least=0.0):
    if not value > least:
        raise NotFitted(f"{name} came out as {value:g}: the machine was too busy, or the samples too short")
    return value


def fit(cpu, sample):
    """Adds what a message, a write and a byte cost; `idle`, `keep_alive` and `check_name` are there."""
    small, large = ({name: per_write(sample[name][size], cpu["idle"]) for name in PROTOCOLS}
                    for size in ("small", "large"))
    for name in PROTOCOLS:
        cpu["byte"][name] = positive(f"a byte over {name}", (large[name] - small[name]) / (LARGE - SMALL))
        cpu["write"][name], cpu["cold"][name] = small[name] - SMALL * cpu["byte"][name], 0.0
    cpu.update(message=0.0, wake=0.0, rate_half=1000.0, burst_half=float(ROOM), cold_half=200.0)
    own = sample["own"]
    for _ in range(TURNS):
        costs = [(rate_of(own[rate]), positive("a message", single(cpu, own[rate])))
                 for rate in ("slow", "middle", "fast", "fastest")]
        cpu["message"], cpu["wake"], cpu["rate_half"], _ = waking(costs)
        cpu["cold_half"] = cold_half(cpu, sample)
        cpu["burst_half"] = burst_half(cpu, sample)
        for name in PROTOCOLS:
            room = (extra(cpu, sample[name]["rooms"], name, ROOM) + extra(cpu, sample[name]["often"], name, ROOM)) / 2
            cpu["cold"][name] = max(room, 0.0) / ROOM * (1 + ROOM / cpu["burst_half"])
            streams = sample[name]["open"]["connections"]
            message = message_of(cpu, rate_of(sample[name]["small"]), name, streams)
            cpu["write"][name] = positive(f"a delivery over {name}",
                                          small[name] - SMALL * cpu["byte"][name] - message / streams)


def message_of(cpu, rate, name, writes):
    """What one of so many messages in a second costs beyond its writes."""
    return (cpu["message"] + model.woken(rate, cpu["rate_half"]) / rate * cpu["wake"]
            + model.woken(rate, cpu["cold_half"]) / rate * model.cold(cpu, name, writes))


def per_message(cpu, window, name, fan_out):
    """What each message of a window took, deliveries included, and what would have been without it left out."""
    rate = rate_of(window)
    quiet = STREAMS * model.keep_alives(rate * fan_out / STREAMS, KEEP_ALIVE, is_regular=True) * cpu["keep_alive"][name]
    check = STREAMS / fan_out / model.CHECK_SECONDS * cpu["check_name"]
    return (window["cpu"] / window["seconds"] - cpu["idle"] - quiet - check) / rate


def single(cpu, window):
    """What a message to one stream costs beyond its delivery."""
    cold = model.woken(rate_of(window), cpu["cold_half"]) / rate_of(window) * model.cold(cpu, "h1", 1)
    return per_message(cpu, window, "h1", 1) - cold - cpu["write"]["h1"] - SMALL * cpu["byte"]["h1"]


def beyond(cpu, window, name, fan_out):
    """What a burst to so many streams costs beyond its message, its writes and its bytes."""
    rate = rate_of(window)
    each = cpu["write"][name] + SMALL * cpu["byte"][name]
    message = cpu["message"] + model.woken(rate, cpu["rate_half"]) / rate * cpu["wake"]
    return per_message(cpu, window, name, fan_out) - message - fan_out * each


def extra(cpu, window, name, fan_out):
    """The same of a burst before which everything was forgotten."""
    rate = rate_of(window)
    return beyond(cpu, window, name, fan_out) * rate / model.woken(rate, cpu["cold_half"])


def cold_half(cpu, sample):
    """Bursts in a second with which half of what they need is still in the caches: from bursts at two rates."""
    seldom, often = (sum(max(beyond(cpu, sample[name][what], name, ROOM), 0.0) for name in PROTOCOLS)
                     for what in ("rooms", "often"))
    slow, fast = (rate_of(sample["h1"][what]) for what in ("rooms", "often"))
    share = often / seldom if seldom else 1.0
    if share >= 1:
        return MOST_COLD_HALF
    half = (fast * share - slow) / (1 - share)
    return min(max(half, LEAST_COLD_HALF), MOST_COLD_HALF)


def burst_half(cpu, sample):
    """How many deliveries it takes until half of the way to a long burst is done: from bursts of two lengths."""
    pair, room = (sum(max(extra(cpu, sample[name][what], name, count), 0.0) for name in PROTOCOLS)
                  for what, count in (("pairs", PAIR), ("rooms", ROOM)))
    share, least = (pair / room if room else 0.0), PAIR / ROOM
    if share <= least:
        return MOST_BURST_HALF
    return min(max(PAIR * (1 - share) / (share - least), LEAST_BURST_HALF), MOST_BURST_HALF)


def rate_of(window):
    """Messages in a second."""
    return window["messages"] / window["seconds"]


def together(window):
    """Segments for each delivery, with one stream on a connection: below 1 where a busy machine made two of them
    one."""
    return min(1.0, window["segments"])


def per_write(window, idle):
    """Seconds of a processor for each write."""
    return (window["cpu"] - idle * window["seconds"]) / (window["deliveries"] * together(window))
