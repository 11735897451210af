"""The command line of `benches/scale`."""

import argparse
import subprocess
import time
from dataclasses import fields
from pathlib import Path

from scaling import bursts, check, constants, fit, fleet, measure, model, report, storm
from scaling.bad_weather import Weather
from scaling.figures import count, gbit, gib, number, seconds, zero_or_seconds
from scaling.load import Mode
from scaling.machine import ROOT, Failed, describe, say

ABOUT = """What so many streams take: a model, its constants, and what was seen of it.

    benches/scale predict --streams 1M --channels 1M --rate 5k     what they take, and what gives way first
    benches/scale measure                    fits the constants on this machine (about twenty minutes)
    benches/scale check                      three points that it was not fitted to, beside the model
    benches/scale fleet                      a deploy of four gateways under 8,000 clients

docs/SCALE.md explains it. What is measured is the time of processors, memory and bytes, not times: a machine that
others use, too, makes the figures worse, not useless. Everything listens on loopback and ends with the run.
"""


def parser():
    whole = argparse.ArgumentParser(prog="benches/scale", description=ABOUT,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = whole.add_subparsers(dest="command", required=True, metavar="predict|measure|check|fleet")
    add_predict(commands.add_parser("predict", help="what a load takes of a fleet and of Redis"))
    for name, help_of in (("measure", "fits the constants on this machine"),
                          ("check", "three points that the constants were not fitted to")):
        command = commands.add_parser(name, help=help_of)
        add_binary(command)
        command.add_argument("--rounds", type=count, default=3, help="each figure is the median of so many (default 3)")
        command.add_argument("--seconds", type=seconds, default=4.0, help="of each window (default 4)")
    commands.choices["measure"].add_argument(
        "--output", type=Path, help="the file for the constants (default: benches/results/DATE-scale.json)")
    commands.choices["measure"].add_argument(
        "--fit", type=Path, metavar="FILE", help="fits the constants to the samples of a file, and measures nothing")
    commands.choices["check"].add_argument("--constants", type=Path, help="default: the newest of benches/results")
    commands.choices["check"].add_argument(
        "--kept", action="store_true", help="measures nothing: the points that the file of constants has")
    commands.choices["check"].add_argument(
        "--keep", action="store_true", help="writes what was measured to the file of constants")
    add_fleet(commands.add_parser("fleet", help="a deploy of all gateways behind HAProxy, in bad weather"))
    return whole


def redis_servers(text):
    """As many servers as can be configured."""
    bound = f"{text!r} Redis servers: 1 to {model.MOST_SHARDS}, since redis.shards allows no more"
    try:
        servers = count(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(bound) from error
    if servers > model.MOST_SHARDS:
        raise argparse.ArgumentTypeError(bound)
    return servers


def add_binary(command):
    command.add_argument("--binary", type=Path, help="the gateway; without it, it is built for release")


def add_predict(command):
    base = {each.name: each.default for each in (*fields(model.Load), *fields(model.Fleet), *fields(storm.Patience))}
    load = command.add_argument_group("what is asked of it")
    load.add_argument("--streams", type=count, required=True, metavar="N", help="open streams, such as 1M")
    load.add_argument("--channels", type=count, required=True, metavar="N", help="different channels, over all streams")
    load.add_argument("--rate", type=number, required=True, metavar="N", help="messages a second, over all channels")
    load.add_argument("--payload", type=count, default=base["payload"], metavar="BYTES", help="default 200")
    load.add_argument("--channels-per-stream", type=count, default=1, metavar="N", help="default 1")
    load.add_argument("--mode", default="h2+tls", help="h1, h1+tls, h2+tls (default), or h2+tls/N with N streams on a "
                                                       "connection")
    load.add_argument("--session", type=zero_or_seconds, default=0.0, metavar="SECONDS",
                      help="how long a stream is open before its user leaves and another comes (default 0: they stay)")
    who = command.add_argument_group("what serves it")
    who.add_argument("--gateways", type=count, default=base["gateways"], metavar="N", help="default 4")
    who.add_argument("--cores", type=count, default=base["cores"], metavar="N", help="of each gateway (default 4)")
    who.add_argument("--memory", type=gib, default=16.0, metavar="GIB", help="of each gateway (default 16)")
    who.add_argument("--files", type=count, default=base["files"], metavar="N",
                     help="LimitNOFILE of each gateway (default 200000, as deploy/ssegate.service has it)")
    who.add_argument("--network", type=gbit, default=10.0, metavar="GBIT", help="of each host (default 10)")
    who.add_argument("--max-channels", type=count, default=base["max_channels"], metavar="N",
                     help="as in gateway.yaml (default 100000)")
    who.add_argument("--balancer-addresses", type=count, metavar="N", default=0,
                     help="addresses of a load balancer that connects to each gateway (default: clients do)")
    who.add_argument("--redis-servers", type=redis_servers, default=base["redis_servers"], metavar="N",
                     help="servers among which the channels are divided, as redis.shards does (default 1, at most "
                          f"{model.MOST_SHARDS})")
    times = command.add_argument_group("times, in seconds, or with a unit: 3s, 5m")
    times.add_argument("--keep-alive", type=seconds, default=base["keep_alive"], help="sse.keep_alive (default 15)")
    times.add_argument("--retry", type=seconds, default=base["retry"], help="sse.retry (default 3)")
    times.add_argument("--drain", type=seconds, default=base["drain"], help="drain (default 10)")
    times.add_argument("--start", type=seconds, default=base["start"],
                       help="until a started gateway gets clients (default 5)")
    command.add_argument("--constants", type=Path, help="default: the newest of benches/results")


def add_fleet(command):
    base = fleet.Voyage()
    add_binary(command)
    command.add_argument("--clients", type=count, default=base.clients, metavar="N", help="default 8000")
    command.add_argument("--channels", type=count, default=base.channels, metavar="N", help="default 200")
    command.add_argument("--rate", type=number, default=base.rate, metavar="N", help="messages a second (default 50)")
    command.add_argument("--seed", type=count, default=base.seed, metavar="N", help="of the bad weather (default 1)")
    command.add_argument("--in-place", action="store_true",
                         help="each gateway is stopped before another is started in its place")
    command.add_argument("--settle", type=seconds, metavar="SECONDS",
                         help="how long a new gateway is ready before it gets clients (default 14, with --quick 0.5)")
    command.add_argument("--quick", action="store_true",
                         help="a short drain, short waits, much weather: some hundred clients, and no prediction")
    command.add_argument("--constants", type=Path, help="default: the newest of benches/results")


def binary_of(options):
    if options.binary:
        if not options.binary.is_file():
            raise Failed(f"{options.binary}: no such file")
        return options.binary
    say("building the gateway for release")
    subprocess.run(["cargo", "build", "--profile", "dist", "--quiet"], cwd=ROOT, check=True)
    return ROOT / "target" / "dist" / "ssegate"


def version(binary):
    return subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def predict(options):
    try:
        mode = Mode.parse(options.mode)
    except ValueError as error:
        raise Failed(str(error)) from error
    if options.channels > options.streams * options.channels_per_stream:
        raise Failed(f"{options.channels:,} channels are more than {options.streams:,} streams can have with "
                     f"{options.channels_per_stream} each: count only channels that somebody listens to")
    load = model.Load(
        streams=options.streams, channels=options.channels, rate=options.rate, payload=options.payload,
        channels_per_stream=options.channels_per_stream, protocol=str(mode).partition("/")[0],
        streams_per_connection=mode.streams_per_connection, session=options.session)
    servers = model.Fleet(
        gateways=options.gateways, cores=options.cores, memory=options.memory * 2.0**30, files=options.files,
        network=options.network * 1e9 / 8, keep_alive=options.keep_alive, max_channels=options.max_channels,
        balancer_addresses=options.balancer_addresses, redis_servers=options.redis_servers)
    patience = storm.Patience(retry=options.retry, drain=options.drain, start=options.start)
    found = constants.read(options.constants or constants.newest())
    print(report.prediction(found["constants"], load, servers, patience))
    return 0


def fitted_again(options):
    """Fits the constants of a file anew: the fit has changed, or the run was ended."""
    found = constants.read(options.fit, is_fitted=False)
    found["constants"] = fit.constants(found["sample"])
    constants.write(options.output or options.fit, found)
    return compared(found["constants"], [found["points"]])


def measured(options):
    if options.fit:
        return fitted_again(options)
    binary = binary_of(options)
    date = time.strftime("%Y-%m-%d")
    output = options.output or constants.RESULTS / f"{date}-scale.json"
    rounds, points = [], []
    for at in range(1, options.rounds + 1):
        say(f"round {at} of {options.rounds}")
        rounds.append(measure.one_round(binary, measure.MODES, options.seconds))
        points.append(check.one_round(binary, options.seconds))
        sample = fit.middle(rounds)
        found = {
            "date": date, "machine": describe(), "version": version(binary), "rounds": at,
            "command": f"benches/scale measure --rounds {at} --seconds {options.seconds:g}",
            "constants": {}, "sample": sample, "points": fit.middle(points)}
        # After each round, so that a run that somebody ends is not in vain; and what cannot be fitted can be looked at.
        constants.write(output, found)
        if at == options.rounds:
            found["constants"] = fit.constants(sample)
            constants.write(output, found)
    print(f"{output}: medians of {options.rounds} rounds\n")
    return compared(found["constants"], [found["points"]])


def checked(options):
    found = constants.read(options.constants or constants.newest())
    if options.kept:
        return compared(found["constants"], [found["points"]])
    binary, rounds = binary_of(options), []
    for at in range(1, options.rounds + 1):
        say(f"round {at} of {options.rounds}")
        rounds.append(check.one_round(binary, options.seconds))
    if options.keep:
        constants.write(options.constants or constants.newest(), found | {
            "points": fit.middle(rounds),
            "command_of_points": f"benches/scale check --rounds {options.rounds} --seconds {options.seconds:g} --keep"})
    return compared(found["constants"], rounds)


def compared(known, rounds):
    """Prints the points; the exit code."""
    results = check.results(known, rounds)
    for mode, load, rows in results:
        print(f"{mode}: {load.streams:,} streams, {load.channels} channels, {load.rate:g} messages/s of {load.payload} "
              f"bytes\n\n{report.comparison(rows)}\n")
    wrong = [f"{name} over {mode}" for mode, _, rows in results for name in check.beyond(rows)]
    print(f"not within {100 * check.TOLERANCE:.0f} %: {', '.join(wrong)}" if wrong
          else f"all within {100 * check.TOLERANCE:.0f} %")
    return 1 if wrong else 0


def sailed(options):
    values = {"clients": options.clients, "channels": options.channels, "rate": options.rate, "seed": options.seed,
              "is_in_place": options.in_place}
    if options.quick:
        weather = Weather(delays=0.05, delay=(0.05, 0.3), stalls=0.02, stall=(0.2, 0.6), cuts=0.03)
        values |= {"drain": 0.3, "drain_delay": 0.4, "retry": 0.2, "settle": 0.5, "calm": 0.4, "weather": weather,
                   "patience": 30.0, "check": 0.1}
    if options.settle:
        values["settle"] = options.settle
    known = None if options.quick else constants.read(options.constants or constants.newest())["constants"]
    found = fleet.sail_through(binary_of(options), fleet.Voyage(**values), known)
    print(report.rolling_restart(found))
    if wrong := fleet.verdict(found):
        raise Failed("; ".join(wrong))
    return 0


def main():
    options = parser().parse_args()
    commands = {"predict": predict, "measure": measured, "check": checked, "fleet": sailed}
    try:
        return commands[options.command](options)
    except bursts.NotFitted as error:
        raise Failed(f"no constants: {error}") from error
