"""What a prediction, a check and a rolling restart say, as text. No I/O."""

from dataclasses import replace

from scaling import model, storm
from scaling.figures import bits, plain, size, span, table


def prediction(constants, load, fleet, patience):
    """The tables of `benches/scale predict`."""
    one, server = model.gateway(constants, load, fleet), model.redis(constants, load, fleet)
    http = load.protocol + (f"/{load.streams_per_connection}" if load.streams_per_connection > 1 else "")
    lines = [
        f"{load.streams:,} streams over {http}, {load.channels:,} channels, {plain(load.rate)} messages/s of "
        f"{load.payload} bytes to {plain(load.fan_out)} streams each: {plain(load.rate * load.fan_out)} deliveries/s",
        "",
        table(gateway_rows(one, fleet)), "", table(redis_rows(server, fleet)), "",
        table(storm_rows(constants, load, fleet, patience)), "",
        table(use_rows(constants, load, fleet)),
    ]
    return "\n".join(lines + [""] + conclusions(constants, load, fleet, patience))


def gateway_rows(one, fleet):
    cpu = ", ".join(f"{what} {plain(value)}" for what, value in one.cpu.items() if value >= one.cores / 100)
    memory = ", ".join(f"{what} {size(value)}" for what, value in one.memory.items())
    return [
        [f"each of {fleet.gateways} gateways", "", "of which"],
        ["streams", plain(one.streams), f"connections {plain(one.connections)}, channels {plain(one.channels)}"],
        ["processors busy", plain(one.cores), cpu],
        ["memory", size(one.memory_bytes), memory],
        ["kernel memory", size(one.kernel), "sockets; what waits to be sent comes on top"],
        ["sent to clients", bits(one.out_bytes),
         f"{plain(one.deliveries)} deliveries/s in {plain(one.writes)} writes/s"],
        ["received from Redis", bits(one.redis_in_bytes), f"{plain(one.heard)} messages/s"],
    ]


def redis_rows(server, fleet):
    return [
        ["Redis" if fleet.redis_servers == 1 else f"each of {fleet.redis_servers} Redis servers", "", ""],
        ["connections", plain(server.connections), f"subscriptions {plain(server.subscriptions)}"],
        ["commands", f"{plain(server.published + server.marks + server.checks)}/s",
         f"publish {plain(server.published)}, marks {plain(server.marks)}, self-checks {plain(server.checks)}"],
        ["messages sent", f"{plain(server.sent)}/s", bits(server.out_bytes)],
        ["processor busy", plain(server.cpu), ""],
    ]


def storm_rows(constants, load, fleet, patience):
    rows = [["storm", "streams that come", "at most/s", "CPU, s", "SUBSCRIBEs", "CPU of Redis, s",
             "all are back after", "limit"]]
    for name, found in (("one gateway drains", storm.drained), ("one gateway dies", storm.died),
                        ("all restart at once", storm.restarted)):
        if fleet.gateways == 1 and found is not storm.restarted:
            continue
        one = found(constants, load, fleet, patience)
        rows.append([name, plain(one.streams), plain(one.per_second), plain(one.cpu), plain(one.subscriptions),
                     plain(one.redis_cpu), span(one.seconds), one.limit])
    return rows


def use_rows(constants, load, fleet):
    rows = [["what is used most", "used", "of", "share", "full at"]]
    for use in model.uses(constants, load, fleet):
        show = size if "memory" in use.of else bits if "network" in use.of else plain
        full = load.streams / use.share if use.share else None
        rows.append([use.of, show(use.used), show(use.limit), f"{100 * use.share:.0f} %",
                     f"{plain(full)} streams" if full else "-"])
    return rows


def conclusions(constants, load, fleet, patience):
    """Sentences: what gives way first, how many gateways are enough, what a deploy costs."""
    first = model.uses(constants, load, fleet)[0]
    lines = [f"First gives way: {first.of}, at {plain(load.streams / first.share)} streams (all else growing alike)."]
    enough = model.gateways_for(constants, load, fleet)
    size_of_one = f"{fleet.cores} processors and {size(fleet.memory)}"
    if enough is None:
        lines.append(f"No number of gateways with {size_of_one} is enough for this.")
    else:
        lines.append(enough_gateways(constants, load, replace(fleet, gateways=enough), size_of_one))
    if fleet.gateways > 1:
        for how, is_in_place in (("each new gateway started before the old one drains", False),
                                 ("each stopped before it is started again", True)):
            deploy = storm.deployed(constants, load, fleet, patience, is_in_place)
            lines.append(
                f"A deploy of all, {how}: {span(deploy.seconds)}, {plain(deploy.streams)} streams moved "
                f"({plain(deploy.moves)} times each), {plain(deploy.cpu)} s of processors, up to "
                f"{plain(deploy.most_streams)} streams at one gateway, {plain(deploy.subscriptions)} SUBSCRIBEs."
                + (" The last gateway is empty then." if is_in_place else ""))
        if deploy.untold:
            lines.append(
                f"A gateway that starts is told {storm.CHANNELS_TOLD:,} of the channels of the others: on "
                f"{plain(deploy.untold)} more, who comes back to it may be told a gap.")
    return lines


def enough_gateways(constants, load, fleet, size_of_one):
    """A sentence: so many gateways are enough; or what is to do before they are."""
    gateways = (f"{fleet.gateways} gateways with {size_of_one}, one of which may be away "
                f"(at most {100 * fleet.headroom:.0f} % used)")
    over = [use for use in model.uses(constants, load, fleet) if not use.is_shared and use.share > fleet.headroom]
    if not over:
        return f"Enough: {gateways}."
    what = " and ".join(f"{use.of} ({100 * use.share:.0f} % used)" for use in over)
    servers = model.redis_servers_for(constants, load, fleet)
    mend = (f"{servers} Redis servers do (--redis-servers {servers}), or fewer messages" if servers
            else f"fewer messages do, {model.MOST_SHARDS} Redis servers do not either")
    return f"More gateways do not help: {what}; {mend}. With that it takes {gateways}."


def comparison(rows):
    """Predictions beside measurements: name, predicted, measured; and whether each is within 20 %."""
    lines = [["", "predicted", "measured", "predicted / measured"]]
    for name, predicted, measured, show in rows:
        lines.append([name, show(predicted), show(measured), f"{predicted / measured:.2f}" if measured else "-"])
    return table(lines)


def rolling_restart(found):
    """The tables of `benches/scale fleet`."""
    report, restarts, voyage = found["report"], found["restarts"], found["voyage"]
    how = "stopped and started again" if voyage.is_in_place else "replaced"
    gaps = ", ".join(f"{reason} {number}" for reason, number in sorted(report["gaps"].items())) or "0"
    lines = [
        f"{voyage.clients:,} clients, {voyage.channels} channels, {plain(voyage.rate)} messages/s, "
        f"{voyage.gateways} gateways {how}, one after the other",
        "",
        table([["", ""], ["messages published", f"{found['published']:,}"],
               ["messages received", f"{report['received']:,}"],
               ["lost in silence", report["lost"] + found["missing"]], ["received twice", report["repeated"]],
               ["gaps told", gaps],
               ["streams that a gateway ended / that were cut",
                f"{report['ends']['ended']:,} / {report['ends']['cut']:,}"],
               ["delays, stalls, cuts of the proxy",
                ", ".join(f"{found['mishaps'].get(what, 0):,}" for what in ("delays", "stalls", "cuts"))],
               ["clients that were refused", sum(report["refused"].values())]]),
        "",
        table([["gateway", "streams", "moved", "drained after, s", "all back after, s",
                "new one gets clients after, s"]]
              + [[one["gateway"], f"{one['streams']:,}", f"{one['moved']:,}", plain(one["ended"]), plain(one["back"]),
                  plain(one["start"])] for one in restarts]),
    ]
    if told := found["prediction"]:
        lines += ["", comparison([
            ("CPU to open all streams, s", told["opening_cpu"], found["opening_cpu"], plain),
            ("CPU while nothing happens, s", told["steady_cpu"], found["steady"]["cpu"], plain),
            ("CPU while they drain, s", told["restart_cpu"], sum(one["cpu"] for one in restarts), plain),
            ("streams moved", told["moved"], sum(one["moved"] for one in restarts), plain),
            ("a gateway's clients are back after, s", told["back"],
             sorted(one["back"] for one in restarts)[len(restarts) // 2], plain)])]
    lines += ["", f"Streams afterwards: {', '.join(f'{name} {n:,}' for name, n in found['streams'].items())}."]
    return "\n".join(lines)
