"""Constants that are fitted to what the model itself says, and files of constants."""

import argparse
import json
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

from scaling import bursts, constants, figures, fit, model
from scaling.machine import Failed
from scaling.tests.test_model import CONSTANTS


def window(load, seconds=4.0):
    """A window as the model has it."""
    fleet = model.Fleet(gateways=1, keep_alive=bursts.KEEP_ALIVE, history_memory=1e12)
    load = replace(load, is_regular=True)
    one = model.gateway(CONSTANTS, load, fleet)
    return {"messages": load.rate * seconds, "deliveries": one.deliveries * seconds, "seconds": seconds,
            "cpu": one.cores * seconds, "segments": one.writes / one.deliveries,
            "redis_cpu": model.redis(CONSTANTS, load, fleet).cpu * seconds}


def open_and_quiet(protocol, streams, channels, each=1):
    """What opening takes, and a quiet time."""
    cpu, memory = CONSTANTS["cpu"], CONSTANTS["memory"]
    connections, is_http2 = streams / each, protocol == "h2+tls"
    load = model.Load(streams=streams, channels=channels, rate=1e-12, protocol=protocol, streams_per_connection=each)
    quiet = model.gateway(CONSTANTS, load, model.Fleet(gateways=1, keep_alive=bursts.KEEP_ALIVE))
    opened = {
        "connections": connections,
        "open_cpu": connections * cpu["connection"][protocol] + is_http2 * streams * cpu["stream"]
        + channels * cpu["channel"],
        "memory": connections * memory["connection"][protocol] + is_http2 * streams * memory["stream"]
        + channels * memory["channel"],
        "kernel": CONSTANTS["kernel"]["socket"], "open_redis_cpu": channels * CONSTANTS["redis"]["subscribe"],
    }
    return opened, {"cpu": quiet.cores, "redis_cpu": CONSTANTS["redis"]["idle"] + CONSTANTS["redis"]["gateway"]
                    + channels / 5 * CONSTANTS["redis"]["check_name"]}


def one_channel(protocol, each=1):
    streams = 3000
    opened, quiet = open_and_quiet(protocol, streams, 1, each)
    def sized(payload, rate):
        return window(model.Load(streams=streams, channels=1, rate=rate, payload=payload, protocol=protocol,
                                 streams_per_connection=each))
    small = sized(bursts.SMALL, 10.0)
    wire = CONSTANTS["wire"]
    small["wire_bytes"] = bursts.SMALL + wire["event"][protocol] + (wire["record"] if protocol != "h1" else 0)
    short = {name: window(model.Load(streams=streams, channels=streams // count, rate=rate, payload=bursts.SMALL,
                                      protocol=protocol, streams_per_connection=each))
              for name, count, rate in (("rooms", bursts.ROOM, 30.0), ("often", bursts.ROOM, 150.0),
                                        ("pairs", bursts.PAIR, 100.0))}
    return short | {"open": opened, "quiet": quiet, "small": small, "large": sized(bursts.LARGE, 5.0),
            "close": streams / each * CONSTANTS["cpu"]["close"][protocol]}


def sample():
    """Samples that the model explains."""
    found = {name: one_channel(name) for name in bursts.PROTOCOLS}
    found[fit.SHARED] = one_channel("h2+tls", fit.SHARED_STREAMS)
    opened, quiet = open_and_quiet("h1", 3000, 3000)
    found["own"] = {"open": opened, "quiet": quiet}
    for name, rate in (("slow", 100.0), ("middle", 1000.0), ("fast", 4000.0), ("fastest", 12000.0)):
        found["own"][name] = window(model.Load(streams=3000, channels=3000, rate=rate, payload=100, protocol="h1"))
    idle = {"cpu": CONSTANTS["cpu"]["idle"], "redis_cpu": CONSTANTS["redis"]["idle"] + CONSTANTS["redis"]["gateway"]}
    found["few"] = {"idle": idle, "process": 2e6, "files": 31, "kept": {"memory": 320.0 * 17600, "messages": 17600}}
    found["crowded"] = open_and_quiet("h2+tls", 10_000, 1, 100)[0] | {"streams": 10_000}
    costs = CONSTANTS["redis"]
    many = {"streams": 100, "channels": 20_000, "before": idle}
    many["quiet"] = {
        "cpu": idle["cpu"] + 100 / bursts.KEEP_ALIVE * CONSTANTS["cpu"]["keep_alive"]["h1"]
        + 20_000 / 5 * CONSTANTS["cpu"]["check_name"],
        "redis_cpu": idle["redis_cpu"] + 20_000 / 5 * costs["check_name"]}
    found["many"] = many

    def redis(rate, listeners):
        share = 1 / (1 + rate / costs["rate_half"])
        return costs["message"] + share * costs["wake"] + listeners * (
            costs["listener"] + share * costs["listener_wake"])

    found["redis"] = {"idle": costs["idle"]} | {
        str(rate): {"rate": rate, "0": redis(rate, 0), "8": redis(rate, 8)} for rate in (100.0, 1000.0, 40000.0)}
    return found


class Fits(unittest.TestCase):
    def test_the_constants_come_out_that_went_in(self):
        found = fit.constants(sample())

        def compare(expected, value, name):
            if isinstance(expected, dict):
                for key in expected:
                    compare(expected[key], value[key], f"{name}.{key}")
            elif name != "constants.memory.queues":
                self.assertLess(abs(value / expected - 1), 0.05, f"{name}: {value} for {expected}")

        compare(CONSTANTS, found, "constants")

    def test_samples_that_make_no_sense_are_refused(self):
        wrong = sample()
        wrong["h1"]["large"]["cpu"] = wrong["h1"]["small"]["cpu"] / 10
        with self.assertRaisesRegex(bursts.NotFitted, "a byte over h1"):
            fit.constants(wrong)

    def test_writes_that_a_busy_machine_made_one_are_counted_as_one(self):
        crowded = sample()
        for name in bursts.PROTOCOLS:
            small = crowded[name]["small"]
            # Half of the writes: half of what they cost.
            payload = small["deliveries"] * bursts.SMALL * CONSTANTS["cpu"]["byte"][name]
            idle = CONSTANTS["cpu"]["idle"] * small["seconds"]
            small["cpu"] = idle + (small["cpu"] - idle - payload) / 2 + payload / 2
            small["segments"] = 0.5
            small["wire_bytes"] -= CONSTANTS["wire"]["record"] / 2 if name != "h1" else 0
        found, expected = fit.constants(crowded), fit.constants(sample())
        for name in bursts.PROTOCOLS:
            self.assertAlmostEqual(found["cpu"]["write"][name] / expected["cpu"]["write"][name], 1, places=2)
            self.assertAlmostEqual(found["wire"]["event"][name], expected["wire"]["event"][name])

    def test_medians_are_taken_of_each_number(self):
        rounds = [{"a": {"b": value}, "c": "x", "d": None} for value in (5, 1, 3)]
        self.assertEqual(fit.middle(rounds), {"a": {"b": 3}, "c": "x", "d": None})


class Files(unittest.TestCase):
    def refused(self, text, reason):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "constants.json"
            if text is not None:
                path.write_text(text)
            with self.assertRaisesRegex(Failed, reason):
                constants.read(path)

    def test_what_is_no_file_of_constants_is_refused_with_the_reason(self):
        self.refused(None, "No such file")
        self.refused("{", "not JSON")
        self.refused("[]", "no constants")
        self.refused(json.dumps({"constants": {"cpu": {}}}), "lacks memory, wire, kernel, redis, files")

    def test_a_file_of_another_version_is_refused(self):
        sections = {section: {} for section in constants.SECTIONS}
        self.refused(json.dumps({"constants": sections}), "is not of format 1: it is of another version")

    def test_the_kept_constants_can_be_read(self):
        found = constants.read(constants.newest())
        for section in constants.SECTIONS:
            self.assertIn(section, found["constants"])

    def test_numbers_are_rounded_to_six_digits(self):
        self.assertEqual(constants.rounded({"a": [1.23456789, 7]}), {"a": [1.23457, 7]})


class Figures(unittest.TestCase):
    def test_numbers_are_read_as_people_write_them(self):
        for text, expected in (("8000", 8000), ("16k", 16000), ("1.5M", 1_500_000), ("10_000", 10_000)):
            self.assertEqual(figures.count(text), expected)
        for text in ("", "0", "-1", "x", "1.5", "nan", "inf", "1e400"):
            with self.assertRaises(argparse.ArgumentTypeError, msg=text):
                figures.count(text)

    def test_figures_have_three_digits(self):
        for value, expected in (
            (0, "0"), (0.001234, "0.00123"), (12.34, "12.3"), (1234.0, "1,230"), (2.5e6, "2,500,000"),
        ):
            self.assertEqual(figures.plain(value), expected)
        self.assertEqual(figures.size(3 * 2**20), "3 MiB")
        self.assertEqual(figures.bits(1.25e9), "10 Gbit/s")


if __name__ == "__main__":
    unittest.main()
