"""The model, with constants that can be counted by hand."""

import argparse
import math
import unittest
from dataclasses import replace

from scaling import figures, model, storm
from scaling.model import Fleet, Load

#: A millisecond to open, ten microseconds to write, a thousand bytes for each thing.
CONSTANTS = {
    "cpu": {
        "idle": 0.001, "wake": 100e-6, "message": 2e-6, "rate_half": 1000.0,
        "write": {"h1": 10e-6, "h1+tls": 12e-6, "h2+tls": 12e-6}, "frame": 1e-6,
        "cold": {"h1": 4e-6, "h1+tls": 6e-6, "h2+tls": 7e-6}, "burst_half": 50.0, "cold_half": 300.0,
        "byte": {"h1": 1e-9, "h1+tls": 2e-9, "h2+tls": 2e-9},
        "keep_alive": {"h1": 10e-6, "h1+tls": 12e-6, "h2+tls": 12e-6},
        "connection": {"h1": 60e-6, "h1+tls": 1e-3, "h2+tls": 1e-3},
        "close": {"h1": 40e-6, "h1+tls": 50e-6, "h2+tls": 50e-6},
        "stream": 10e-6, "channel": 15e-6, "check_name": 3e-6,
    },
    "memory": {"process": 2e6, "queues": 256e6, "connection": {"h1": 2000.0, "h1+tls": 10e3, "h2+tls": 10e3},
               "stream": 1000.0, "channel": 900.0, "event": 220.0},
    "wire": {"event": {"h1": 52.0, "h1+tls": 52.0, "h2+tls": 55.0}, "record": 22.0, "text": 46.0},
    "kernel": {"socket": 4000.0},
    "redis": {"idle": 0.001, "gateway": 0.0005, "message": 10e-6, "wake": 70e-6, "rate_half": 700.0, "listener": 1e-6,
              "listener_wake": 10e-6, "subscribe": 8e-6, "check_name": 0.5e-6},
    "files": 31,
}
LOAD = Load(streams=100_000, channels=1000, rate=100.0, payload=200, protocol="h1")


def one(load=LOAD, **fleet):
    return model.gateway(CONSTANTS, load, Fleet(**fleet))


class Gateways(unittest.TestCase):
    def test_all_gateways_together_deliver_everything(self):
        for count in (1, 4, 16):
            found = one(gateways=count)
            self.assertAlmostEqual(found.deliveries * count, LOAD.rate * LOAD.fan_out)
            self.assertAlmostEqual(found.streams * count, LOAD.streams)

    def test_deliveries_cost_a_write_and_their_bytes(self):
        found = one(gateways=1)
        self.assertAlmostEqual(found.cpu["deliveries"], 10_000 * (10e-6 + 200 * 1e-9))

    def test_streams_of_a_connection_share_writes_as_far_as_they_share_channels(self):
        alone = Load(streams=10_000, channels=10_000, rate=100.0, protocol="h2+tls", streams_per_connection=10)
        self.assertAlmostEqual(one(alone, gateways=1).writes, 100.0, delta=0.1)
        together = replace(alone, channels=1)
        self.assertAlmostEqual(one(together, gateways=1).writes, 100.0 * 1000)
        self.assertAlmostEqual(one(together, gateways=1).deliveries, 100.0 * 10_000)

    def test_a_channel_is_where_its_streams_are(self):
        private = replace(LOAD, channels=LOAD.streams)
        self.assertAlmostEqual(model.share_with(private, 4), 0.25)
        self.assertAlmostEqual(model.share_with(LOAD, 4), 1.0)
        self.assertAlmostEqual(model.share_with(replace(LOAD, channels=50_000), 4), 1 - 0.75**2)

    def test_only_quiet_streams_are_kept_alive(self):
        self.assertAlmostEqual(model.keep_alives(0.0, 15.0), 1 / 15)
        self.assertAlmostEqual(model.keep_alives(1e-6, 15.0), 1 / 15, places=5)
        self.assertLess(model.keep_alives(1.0, 15.0), 1e-6)
        self.assertEqual(model.keep_alives(1000.0, 15.0), 0.0)

    def test_what_comes_evenly_leaves_even_silences(self):
        for every, comments in ((3.0, 0), (5.0, 0), (6.0, 1), (15.0, 2), (16.0, 3)):
            found = model.keep_alives(1 / every, 5.0, is_regular=True)
            self.assertAlmostEqual(found * every, comments, msg=every)
        self.assertAlmostEqual(model.keep_alives(0.0, 5.0, is_regular=True), 0.2)

    def test_few_messages_wake_the_gateway_each_and_many_do_not(self):
        self.assertAlmostEqual(model.woken(1.0, 1000.0), 1.0, places=2)
        self.assertLess(model.woken(1e6, 1000.0), 1000.0)

    def test_a_burst_begins_cold(self):
        cpu = CONSTANTS["cpu"]
        self.assertAlmostEqual(model.cold(cpu, "h1", 1), 4e-6, delta=1e-7)
        self.assertLess(model.cold(cpu, "h1", 1e6), 50 * 4e-6)
        self.assertGreater(model.cold(cpu, "h1", 1e6), 49 * 4e-6)

    def test_histories_stay_within_their_bounds(self):
        self.assertEqual(one(replace(LOAD, rate=1e5), gateways=1).memory["histories"], 256 * 2.0**20)
        seldom = replace(LOAD, rate=1.0)
        self.assertAlmostEqual(one(seldom, gateways=1).memory["histories"], 300 * (220.0 + 200))
        often = replace(LOAD, channels=10, rate=100.0)
        self.assertAlmostEqual(one(often, gateways=1).memory["histories"], 10 * 1000 * 420.0)

    def test_clients_that_come_and_go_leave_channels_behind_for_a_while(self):
        private = replace(LOAD, channels=LOAD.streams, session=600.0)
        self.assertAlmostEqual(one(private, gateways=1).channels, 100_000 * 1.5)
        self.assertGreater(one(private, gateways=1).cpu["clients that come and go"], 100_000 / 600 * 100e-6)


class Redis(unittest.TestCase):
    def test_a_message_goes_to_each_gateway_that_has_its_channel(self):
        found = model.redis(CONSTANTS, LOAD, Fleet(gateways=4))
        self.assertAlmostEqual(found.sent, 4 * 100.0 + 4)
        private = replace(LOAD, channels=LOAD.streams)
        self.assertAlmostEqual(model.redis(CONSTANTS, private, Fleet(gateways=4)).sent, 100.0 + 4)

    def test_each_channel_is_checked_every_five_seconds(self):
        private = replace(LOAD, channels=LOAD.streams)
        found = model.redis(CONSTANTS, private, Fleet(gateways=4))
        self.assertAlmostEqual(found.checks, 4 * (49 + 2) / 5)


    def test_servers_share_messages_and_channels_and_each_has_every_gateway(self):
        alone, each = (model.redis(CONSTANTS, LOAD, Fleet(gateways=4, redis_servers=count)) for count in (1, 4))
        self.assertEqual(each.published, alone.published / 4)
        self.assertEqual(each.connections, alone.connections)
        self.assertEqual(each.subscriptions - 12, (alone.subscriptions - 12) / 4)
        self.assertEqual(each.sent - 4, (alone.sent - 4) / 4)
        self.assertTrue(alone.cpu / 4 < each.cpu < alone.cpu)


class Plans(unittest.TestCase):
    def test_the_first_to_give_way_is_first(self):
        found = model.uses(CONSTANTS, LOAD, Fleet(gateways=1, files=50_000))
        self.assertEqual(found[0].of, "open files of a gateway")
        self.assertAlmostEqual(found[0].share, 100_031 / 50_000)
        self.assertEqual(sorted((use.share for use in found), reverse=True), [use.share for use in found])

    def test_so_many_gateways_are_enough_and_one_less_is_not(self):
        fleet = Fleet(files=20_000)
        enough = model.gateways_for(CONSTANTS, LOAD, fleet)
        for count, is_enough in ((enough, True), (enough - 1, False)):
            rest = replace(fleet, gateways=count - 1)
            shares = [use.share for use in model.uses(CONSTANTS, LOAD, rest) if use.is_shared]
            self.assertEqual(max(shares) <= fleet.headroom, is_enough)

    def test_what_every_gateway_hears_no_number_of_gateways_carries(self):
        loud = replace(LOAD, streams=10_000_000, channels=10, rate=1e9, payload=1)
        self.assertIsNone(model.gateways_for(CONSTANTS, loud, Fleet()))


    def test_as_many_redis_servers_are_enough_as_one_has_too_much(self):
        load = replace(LOAD, channels=100_000, rate=200_000.0)
        count = model.redis_servers_for(CONSTANTS, load, Fleet(gateways=100))
        self.assertGreater(count, 1)
        share = [model.redis(CONSTANTS, load, Fleet(gateways=100, redis_servers=servers)).cpu
                 for servers in (count - 1, count)]
        self.assertTrue(share[1] <= 0.7 < share[0], share)
        self.assertIsNone(model.redis_servers_for(CONSTANTS, load.times(100), Fleet(gateways=100)))


class Figures(unittest.TestCase):
    def test_what_has_a_unit_is_read_with_it_and_without(self):
        for parse, text, expected in (
                (figures.seconds, "3", 3.0), (figures.seconds, "3s", 3.0), (figures.seconds, "500ms", 0.5),
                (figures.seconds, "5m", 300.0), (figures.seconds, "1h", 3600.0), (figures.zero_or_seconds, "0", 0.0),
                (figures.gib, "16", 16.0), (figures.gib, "16GiB", 16.0), (figures.gib, "512MiB", 0.5),
                (figures.gbit, "10Gbit", 10.0), (figures.gbit, "500Mbit/s", 0.5)):
            self.assertAlmostEqual(parse(text), expected, msg=text)
        for wrong in ("", "s", "3x", "-3s", "0s"):
            with self.assertRaises(argparse.ArgumentTypeError):
                figures.seconds(wrong)


class Storms(unittest.TestCase):
    FLEET, PATIENCE = Fleet(gateways=4, cores=2), storm.Patience()

    def test_a_drain_takes_its_time_where_the_others_have_enough(self):
        found = storm.drained(CONSTANTS, LOAD, self.FLEET, self.PATIENCE)
        self.assertEqual((found.limit, found.seconds), ("clients", 16.0))
        self.assertAlmostEqual(found.per_second, 2500.0)

    def test_who_comes_alone_wakes_a_gateway(self):
        cpu = CONSTANTS["cpu"]
        self.assertAlmostEqual(model.arriving(cpu, LOAD, 1.0) - model.opening(cpu, LOAD), 100e-6, delta=1e-6)
        self.assertLess(model.arriving(cpu, LOAD, 1e5) - model.opening(cpu, LOAD), 1e-6)

    def test_who_comes_at_once_waits_for_processors(self):
        heavy = replace(LOAD, streams=1_000_000, protocol="h2+tls", rate=1.0)
        found = storm.died(CONSTANTS, heavy, self.FLEET, self.PATIENCE)
        self.assertEqual(found.limit, "processors")
        self.assertGreater(found.seconds, 3.0 + 250_000 * 1.06e-3 / 6)
        self.assertAlmostEqual(found.cpu, 250_000 * 1.06e-3, delta=1.0)

    def test_redis_subscribes_to_one_channel_after_the_other(self):
        many = replace(LOAD, streams=1_000_000, channels=1_000_000, rate=1.0)
        found = storm.restarted(CONSTANTS, many, replace(self.FLEET, cores=64), self.PATIENCE)
        self.assertEqual(found.limit, "Redis")
        self.assertAlmostEqual(found.redis_cpu, 8.0)
        self.assertGreater(found.seconds, 8.0 + 8.0)

    def test_a_redis_that_is_full_subscribes_to_nothing(self):
        many = replace(LOAD, streams=1_000_000, channels=1_000_000, rate=200_000.0)
        found = storm.died(CONSTANTS, many, self.FLEET, self.PATIENCE)
        self.assertEqual((found.limit, found.seconds), ("Redis", math.inf))

    def test_more_than_a_backlog_at_once_comes_again_a_second_later(self):
        found = storm.died(CONSTANTS, LOAD, replace(self.FLEET, cores=16), self.PATIENCE)
        self.assertEqual((found.limit, found.seconds), ("backlog", 4.0))
        few = replace(LOAD, streams=40_000, rate=40.0)
        self.assertEqual(storm.died(CONSTANTS, few, replace(self.FLEET, cores=16), self.PATIENCE).limit, "clients")

    def test_private_channels_are_subscribed_to_anew(self):
        private = replace(LOAD, channels=LOAD.streams)
        self.assertAlmostEqual(storm.died(CONSTANTS, private, self.FLEET, self.PATIENCE).subscriptions, 25_000)
        self.assertAlmostEqual(storm.died(CONSTANTS, LOAD, self.FLEET, self.PATIENCE).subscriptions, 0, places=5)

    def test_a_deploy_moves_each_stream_once_and_in_place_once_and_a_quarter(self):
        self.assertAlmostEqual(storm.deployed(CONSTANTS, LOAD, self.FLEET, self.PATIENCE).moves, 1.0)
        in_place = storm.deployed(CONSTANTS, LOAD, self.FLEET, self.PATIENCE, is_in_place=True)
        self.assertAlmostEqual(in_place.moves, 1.25)
        self.assertAlmostEqual(in_place.most_streams, 100_000 / 3)

    def test_what_is_poured_fills_the_lowest_first(self):
        for levels, without, amount, expected in (
            ([0.0, 5.0, 3.0, 9.0], 0, 2.0, [0.0, 5.0, 5.0, 9.0]),
            ([0.0, 5.0, 3.0, 9.0], 0, 4.0, [0.0, 6.0, 6.0, 9.0]),
            ([7.0, 0.0, 0.0], 0, 4.0, [7.0, 2.0, 2.0]),
            ([0.0], 0, 4.0, [4.0]),
        ):
            storm.pour(levels, without, amount)
            self.assertEqual(levels, expected)


if __name__ == "__main__":
    unittest.main()
