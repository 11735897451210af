"""From samples to the constants of the model: differences between samples that differ in one thing. No I/O."""

from statistics import median

from scaling import bursts, model
from scaling.bursts import KEEP_ALIVE, PROTOCOLS, SMALL, message_of, positive, rate_of, together, waking

SHARED = "h2+tls/16"
SHARED_STREAMS = 16
#: Bytes of HTTP/1.1 around a chunk of 16 to 255 bytes.
CHUNK = 6
#: What clients that read slowly may take of memory: `limits.queue_memory`, as it is by default.
QUEUES = 256 * 2**20


def middle(rounds):
    """The medians of samples of several rounds: of each number by itself."""
    first = rounds[0]
    if isinstance(first, dict):
        keys = [key for key in first if all(key in one for one in rounds)]
        return {key: middle([one[key] for one in rounds]) for key in keys}
    if first is None or isinstance(first, str):
        return first
    return median(rounds)


def constants(sample):
    """The constants, from the medians of all samples."""
    idle = sample["few"]["idle"]["cpu"]
    cpu = {"idle": idle, "write": {}, "byte": {}, "keep_alive": {}, "connection": {}, "close": {}, "cold": {}}
    memory, wire = {"connection": {}}, {"event": {}}
    for name in PROTOCOLS:
        one = sample[name]
        streams = one["open"]["connections"]
        cpu["connection"][name] = positive(f"opening over {name}", one["open"]["open_cpu"] / streams)
        cpu["close"][name] = positive(f"closing over {name}", one["close"] / streams)
        cpu["keep_alive"][name] = positive(
            f"a keep-alive over {name}", (one["quiet"]["cpu"] - idle) * KEEP_ALIVE / streams)
        memory["connection"][name] = positive(f"memory over {name}", one["open"]["memory"] / streams)
        wire["event"][name] = one["small"]["wire_bytes"] - SMALL
    own = sample["own"]
    channels = own["open"]["connections"]
    cpu["check_name"] = check_name(sample["many"], "cpu", cpu["keep_alive"]["h1"])
    bursts.fit(cpu, sample)
    share(cpu, memory, sample[SHARED], sample["crowded"])
    # Two events in one record have one record between them.
    wire["record"] = (wire["event"]["h1+tls"] - wire["event"]["h1"]) / together(sample["h1+tls"]["small"])
    for name in ("h1+tls", "h2+tls"):
        wire["event"][name] -= wire["record"] * together(sample[name]["small"])
    wire["text"] = wire["event"]["h1"] - CHUNK
    cpu["channel"] = positive("a channel", own["open"]["open_cpu"] / channels - cpu["connection"]["h1"])
    memory["channel"] = positive(
        "memory of a channel", own["open"]["memory"] / channels - memory["connection"]["h1"])
    kept = sample["few"]["kept"]
    memory["event"] = positive("memory of an event", kept["memory"] / kept["messages"] - SMALL)
    memory["process"], memory["queues"] = sample["few"]["process"], QUEUES
    # Others on the machine only add sockets.
    kernel = min(sample[name]["open"]["kernel"] for name in PROTOCOLS)
    return {"cpu": cpu, "memory": memory, "wire": wire, "kernel": {"socket": kernel}, "redis": redis(sample),
            "files": sample["few"]["files"]}


def share(cpu, memory, one, crowded):
    """Parts what a connection costs from what a stream on it costs, with a sample of 16 streams on each."""
    streams = one["small"]["deliveries"] / one["small"]["messages"]
    window = one["small"]
    message = message_of(cpu, rate_of(window), "h2+tls", one["open"]["connections"])
    small = (window["cpu"] - cpu["idle"] * window["seconds"]) / window["deliveries"] - message / streams
    small -= SMALL * cpu["byte"]["h2+tls"]
    whole = cpu["write"]["h2+tls"]
    cpu["frame"] = positive("a frame of HTTP/2", (small - whole / SHARED_STREAMS) / (1 - 1 / SHARED_STREAMS))
    cpu["write"]["h2+tls"] = positive("a write of HTTP/2", whole - cpu["frame"])
    connection, each = cpu["connection"]["h2+tls"], crowded["open_cpu"] / crowded["connections"]
    cpu["stream"] = positive("a stream of HTTP/2",
                             (each - connection) / (crowded["streams"] / crowded["connections"] - 1))
    cpu["connection"]["h2+tls"] = connection - cpu["stream"]
    whole, each = memory["connection"]["h2+tls"], one["open"]["memory"] / streams
    memory["stream"] = positive("memory of a stream", (each - whole / SHARED_STREAMS) / (1 - 1 / SHARED_STREAMS))
    memory["connection"]["h2+tls"] = whole - memory["stream"]


def redis(sample):
    """What Redis costs: a message from samples with a gateway that hears it, and from one with as many as it can take;
    the share of a listener from samples with eight of them and without."""
    alone, own = sample["redis"], sample["own"]
    rates = sorted((rate for rate in alone if isinstance(alone[rate], dict)), key=lambda rate: alone[rate]["rate"])
    listener = {rate: max((alone[rate]["8"] - alone[rate]["0"]) / 8, 1e-7) for rate in rates}
    background = own["quiet"]["redis_cpu"]
    most = rates[-1]
    idle = sample["few"]["idle"]["redis_cpu"]
    costs = [cost_of_redis(own[rate], background) for rate in ("slow", "middle")]
    costs += [cost_of_redis(sample[name][what], idle) for what in ("rooms", "pairs") for name in PROTOCOLS]
    costs.append((alone[most]["rate"], alone[most]["0"] + listener[most]))
    message, wake, half, _ = waking(costs)
    shares = [1 / (1 + alone[rate]["rate"] / half) for rate in (rates[0], most)]
    listener_wake = max(0.0, (listener[rates[0]] - listener[most]) / (shares[0] - shares[1]))
    each = max(0.0, listener[most] - listener_wake * shares[1])
    channels = own["open"]["connections"]
    return {
        "idle": alone["idle"], "gateway": max(0.0, idle - alone["idle"]),
        "message": max(message - each, 0.0), "wake": max(wake - listener_wake, 0.0), "rate_half": half,
        "listener": each, "listener_wake": listener_wake,
        "subscribe": positive("a subscription", (own["open"]["open_redis_cpu"]
                                                 - sample["h1"]["open"]["open_redis_cpu"]) / channels),
        "check_name": check_name(sample["many"], "redis_cpu", 0.0),
    }


def check_name(many, what, keep_alive):
    """What a name in the self-check costs, of many of them."""
    grown = many["quiet"][what] - many["before"][what] - many["streams"] / KEEP_ALIVE * keep_alive
    return positive("the self-check", grown * model.CHECK_SECONDS / many["channels"])


def cost_of_redis(window, background):
    """The rate of a window that one gateway hears, and what Redis took for a message. A mark, one in a second, is a
    message, too."""
    used, messages = window["redis_cpu"] - background * window["seconds"], window["messages"] + window["seconds"]
    return messages / window["seconds"], positive("a message of Redis", used / messages)
