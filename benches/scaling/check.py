"""Three points that the constants were not fitted to: what the model says beside what is measured."""

from scaling import measure, model
from scaling.bursts import KEEP_ALIVE
from scaling.fit import middle
from scaling.load import Mode
from scaling.machine import say
from scaling.figures import bits, plain, size

#: How far a prediction may be off.
TOLERANCE = 0.20
#: Below this, pages of the allocator decide what histories take.
LEAST_HISTORY = 2**19

#: Each differs from the samples in streams, channels, rate and size at once.
POINTS = (
    ("h1", model.Load(streams=9000, channels=450, rate=150.0, payload=700, protocol="h1", is_regular=True)),
    ("h2+tls", model.Load(streams=2000, channels=40, rate=60.0, payload=350, protocol="h2+tls",
                          is_regular=True)),
    ("h2+tls/25", model.Load(streams=15000, channels=300, rate=120.0, payload=1200, protocol="h2+tls",
                             streams_per_connection=25, is_regular=True)),
)


def compare(constants, mode, load, sample):
    """Rows of prediction and measurement."""
    fleet = model.Fleet(gateways=1, cores=1, keep_alive=KEEP_ALIVE, history_memory=2.0**30)
    one, server = model.gateway(constants, load, fleet), model.redis(constants, load, fleet)
    window, opened = sample["window"], sample["open"]
    connections = load.streams / load.streams_per_connection
    opening = (connections * constants["cpu"]["connection"][load.protocol]
               + (load.streams * constants["cpu"]["stream"] if load.protocol == "h2+tls" else 0.0)
               + load.channels * constants["cpu"]["channel"])
    seconds = window["seconds"]
    plain_out = one.deliveries * (load.payload + constants["wire"]["event"][load.protocol]) + one.writes * (
        constants["wire"]["record"] if load.protocol != "h1" else 0.0)
    rows = [
        ("CPU to open all, s", opening, opened["open_cpu"], plain),
        ("processors busy", one.cores, window["cpu"] / seconds, plain),
        ("memory of streams and channels", one.memory["connections"] + one.memory["channels"], opened["memory"], size),
        ("sent, below TLS", plain_out, sample["sent"] / seconds, bits),
        ("processor of Redis busy", server.cpu, window["redis_cpu"] / seconds, plain),
        ("commands of Redis/s", server.published + server.marks + server.checks,
         sum(window["commands"].values()) / seconds, plain),
    ]
    kept = window["messages"] * (constants["memory"]["event"] + load.payload)
    if kept >= LEAST_HISTORY:
        rows.append(("memory of histories", kept, window["memory"], size))
    if opened["kernel"] is not None:
        rows.insert(3, ("kernel memory", one.kernel, opened["kernel"] * connections, size))
    return rows


def measured(binary, mode, load, seconds):
    """One round at a point."""
    channels = measure.names("shop", load.channels)
    with measure.rig(binary) as stage:
        mode = Mode.parse(mode)
        stage.warm_up(mode)
        opened = stage.open(mode, load.streams, channels)
        window = stage.publish(channels, load.fan_out, load.rate, load.payload, 2 * seconds)
        return {"open": opened, "window": window, "sent": window["wire_bytes"] * window["deliveries"]}


def beyond(rows):
    """The names of the rows that are further off than the tolerance."""
    return [name for name, predicted, measured, _ in rows
            if not measured or abs(predicted / measured - 1) > TOLERANCE]


def one_round(binary, seconds):
    """All points once."""
    samples = {}
    for mode, load in POINTS:
        say(f"  {mode}, {load.streams:,} streams")
        samples[mode] = measured(binary, mode, load, seconds)
    return samples


def results(constants, rounds):
    """For each point its mode, its load, and its rows, from the medians of the rounds."""
    found = middle(rounds)
    return [(mode, load, compare(constants, mode, load, found[mode])) for mode, load in POINTS]
