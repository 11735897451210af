"""From samples to the constants of the model: differences between samples that differ in one thing. No I/O."""

from statistics import median

from scaling import model

PROTOCOLS = ("h1", "h1+tls", "h2+tls")
SHARED = "h2+tls/16"
SHARED_STREAMS = 16
#: Bytes of a payload.
SMALL, LARGE = 100, 5000
#: How long a stream is quiet before it is sent a comment, in the samples.
KEEP_ALIVE = 5.0
#: Bytes of HTTP/1.1 around a chunk of 16 to 255 bytes.
CHUNK = 6
#: What clients that read slowly may take of memory: `limits.queue_memory`, as it is by default.
QUEUES = 256 * 2**20


class NotFitted(ValueError):
    """Samples that no constants can be fitted to; the text says what is wrong."""


def middle(rounds):
    """The medians of samples of several rounds: of each number by itself."""
    first = rounds[0]
    if isinstance(first, dict):
        keys = [key for key in first if all(key in one for one in rounds)]
        return {key: middle([one[key] for one in rounds]) for key in keys}
    if first is None or isinstance(first, str):
        return first
    return median(rounds)


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


def constants(sample):
    """The constants, from the medians of all samples."""
    idle = sample["few"]["idle"]["cpu"]
    cpu = {"idle": idle, "write": {}, "byte": {}, "keep_alive": {}, "connection": {}, "close": {}}
    memory, wire = {"connection": {}}, {"event": {}}
    for name in PROTOCOLS:
        one = sample[name]
        streams = one["open"]["connections"]
        small, large = (per_write(one[size], idle) for size in ("small", "large"))
        cpu["byte"][name] = positive(f"a byte over {name}", (large - small) / (LARGE - SMALL))
        cpu["write"][name] = positive(f"a delivery over {name}", small - SMALL * cpu["byte"][name])
        cpu["connection"][name] = positive(f"opening over {name}", one["open"]["open_cpu"] / streams)
        cpu["close"][name] = positive(f"closing over {name}", one["close"] / streams)
        cpu["keep_alive"][name] = positive(
            f"a keep-alive over {name}", (one["quiet"]["cpu"] - idle) * KEEP_ALIVE / streams)
        memory["connection"][name] = positive(f"memory over {name}", one["open"]["memory"] / streams)
        wire["event"][name] = one["small"]["wire_bytes"] - SMALL
    share(cpu, memory, sample[SHARED], idle)
    # Two events in one record have one record between them.
    wire["record"] = (wire["event"]["h1+tls"] - wire["event"]["h1"]) / together(sample["h1+tls"]["small"])
    for name in ("h1+tls", "h2+tls"):
        wire["event"][name] -= wire["record"] * together(sample[name]["small"])
    wire["text"] = wire["event"]["h1"] - CHUNK
    own = sample["own"]
    channels = own["open"]["connections"]
    cpu["channel"] = positive("a channel", own["open"]["open_cpu"] / channels - cpu["connection"]["h1"])
    cpu["check_name"] = positive(
        "the self-check", (own["quiet"]["cpu"] - sample["h1"]["quiet"]["cpu"]) * model.CHECK_SECONDS / channels)
    memory["channel"] = positive(
        "memory of a channel", own["open"]["memory"] / channels - memory["connection"]["h1"])
    kept = sample["few"]["kept"]
    memory["event"] = positive("memory of an event", kept["memory"] / kept["messages"] - SMALL)
    memory["process"], memory["queues"] = sample["few"]["process"], QUEUES
    cpu["message"], cpu["wake"], cpu["rate_half"], error = waking(
        [message_cost(own[rate], cpu, channels) for rate in ("slow", "middle", "fast", "fastest")])
    kernel = median([sample[name]["open"]["kernel"] for name in PROTOCOLS])
    return {"cpu": cpu, "memory": memory, "wire": wire, "kernel": {"socket": kernel}, "redis": redis(sample),
            "files": sample["few"]["files"], "error_of_message": error}


def share(cpu, memory, one, idle):
    """Parts what a connection costs from what a stream on it costs, with a sample of 16 streams on each."""
    streams = one["small"]["deliveries"] / one["small"]["messages"]
    window = one["small"]
    small = (window["cpu"] - idle * window["seconds"]) / window["deliveries"] - SMALL * cpu["byte"]["h2+tls"]
    whole = cpu["write"]["h2+tls"]
    cpu["frame"] = positive("a frame of HTTP/2", (small - whole / SHARED_STREAMS) / (1 - 1 / SHARED_STREAMS))
    cpu["write"]["h2+tls"] = positive("a write of HTTP/2", whole - cpu["frame"])
    connection, each = cpu["connection"]["h2+tls"], one["open"]["open_cpu"] / one["open"]["connections"]
    cpu["stream"] = positive("a stream of HTTP/2", (each - connection) / (SHARED_STREAMS - 1))
    cpu["connection"]["h2+tls"] = connection - cpu["stream"]
    whole, each = memory["connection"]["h2+tls"], one["open"]["memory"] / streams
    memory["stream"] = positive("memory of a stream", (each - whole / SHARED_STREAMS) / (1 - 1 / SHARED_STREAMS))
    memory["connection"]["h2+tls"] = whole - memory["stream"]


def together(window):
    """Segments for each delivery, with one stream on a connection: below 1 where a busy machine made two of them
    one."""
    return min(1.0, window["segments"])


def per_write(window, idle):
    """Seconds of a processor for each write."""
    return (window["cpu"] - idle * window["seconds"]) / (window["deliveries"] * together(window))


def message_cost(window, cpu, channels):
    """The rate of a window in which each message goes to one stream, and what a message costs without that delivery."""
    rate = window["messages"] / window["seconds"]
    quiet = channels * model.keep_alives(rate / channels, KEEP_ALIVE) * cpu["keep_alive"]["h1"]
    rest = window["cpu"] - window["seconds"] * (
        cpu["idle"] + quiet + channels / model.CHECK_SECONDS * cpu["check_name"])
    return rate, positive("a message", rest / window["messages"] - cpu["write"]["h1"] - SMALL * cpu["byte"]["h1"])


def redis(sample):
    """What Redis costs; the share of a listener from samples with eight listeners and without."""
    alone, own = sample["redis"], sample["own"]
    rates = sorted((rate for rate in alone if isinstance(alone[rate], dict)), key=lambda rate: alone[rate]["rate"])
    message, wake, half, error = waking([(alone[rate]["rate"], alone[rate]["0"]) for rate in rates])
    listener = [(alone[rate]["rate"], max((alone[rate]["8"] - alone[rate]["0"]) / 8, 1e-7)) for rate in rates]
    fast, slow = listener[-1], listener[0]
    shares = [1 / (1 + rate / half) for rate in (slow[0], fast[0])]
    listener_wake = max(0.0, (slow[1] - fast[1]) / (shares[0] - shares[1]))
    channels = own["open"]["connections"]
    quiet = sample["few"]["idle"]["redis_cpu"] - alone["idle"]
    return {
        "idle": alone["idle"], "gateway": max(0.0, quiet), "message": message, "wake": wake, "rate_half": half,
        "listener": max(0.0, fast[1] - listener_wake * shares[1]), "listener_wake": listener_wake,
        "subscribe": positive("a subscription", (own["open"]["open_redis_cpu"]
                                                 - sample["h1"]["open"]["open_redis_cpu"]) / channels),
        "check_name": max(0.0, (own["quiet"]["redis_cpu"] - sample["h1"]["quiet"]["redis_cpu"])
                          * model.CHECK_SECONDS / channels),
        "error_of_message": error,
    }
