"""A deploy of all gateways: Redis, gateways, HAProxy, bad weather, and clients that count each message.

Each gateway in turn is replaced: a new one is started beside it, gets clients, and then the old one is told to stop,
drains, and ends. Or it is restarted in place: told to stop, and started again. Nothing may be lost or repeated; what
a client is told of as a gap must have a reason that the documentation has for it.
"""

import multiprocessing
import random
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass

from scaling import bad_weather, model, storm
from scaling.machine import Failed, Site, free_port, http_status, more_files, need, say, until
from scaling.redis_client import Publisher, RedisClient
from scaling.sailors import sail

#: Reasons that docs/STREAMS.md has for a client that reconnects to another gateway.
PERMITTED = {"expired", "unknown_id"}

HAPROXY = """
global
    maxconn {most}
    nbthread 1
    stats socket {directory}/haproxy.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-request 10s
    timeout check 3s
    retries 3
    option redispatch
frontend web
    bind 127.0.0.1:{port} backlog 4096
    http-request set-header X-Forwarded-For %[src]
    default_backend ssegate
backend ssegate
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz?exclude=redis ver HTTP/1.1 hdr Host localhost
{servers}
"""


@dataclass(frozen=True)
class Voyage:
    """What a run is made of."""

    clients: int = 8000
    channels: int = 200
    rate: float = 50.0
    payload: int = 200
    gateways: int = 4
    drain: float = 10.0
    drain_delay: float = 2.0
    retry: float = 3.0
    #: Seconds that a gateway is ready before the balancer sends it clients: who was away when it started, and missed
    #: what it has not heard, comes to another one. Longer than `retry`, twice, and than a stall.
    settle: float = 14.0
    #: Seconds in which nothing is restarted: before, between, and after.
    calm: float = 8.0
    seed: int = 1
    weather: bad_weather.Weather = bad_weather.Weather()
    #: Clients of one process.
    crew: int = 2500
    patience: float = 120.0
    #: How often the balancer asks a gateway whether it is ready, in seconds.
    check: float = 0.5
    #: A gateway is stopped before another is started in its place.
    is_in_place: bool = False


class Run:
    """A fleet that runs, with its clients."""

    def __init__(self, site, voyage):
        self.site, self.voyage = site, voyage
        self.redis = site.redis()
        self.settings = (
            f"trusted_proxies: [127.0.0.1]\ndrain: {round(voyage.drain * 1000)}ms\n"
            f"drain_delay: {round(voyage.drain_delay * 1000)}ms\n"
            f"sse: {{ retry: {round(voyage.retry * 1000)}ms }}\n")
        #: Two places for each gateway: the new one is started in the one that is free.
        self.ports = {}
        for number in range(1, voyage.gateways + 1):
            for place in "ab":
                self.ports[f"gateway{number}{place}"] = {kind: free_port() for kind in ("http", "https", "admin")}
        self.gateways = {}
        for number in range(1, voyage.gateways + 1):
            self.start_gateway(f"gateway{number}a")
        #: Seconds of processors of gateways that have ended.
        self.ended_cpu = 0.0
        self.haproxy_port = free_port()
        self.start_haproxy()
        self.processes, self.crews = [], []
        self.start_weather()

    def start_gateway(self, name):
        gateway = self.site.gateway(name, self.redis, self.settings, ports=self.ports[name])
        self.gateways[name] = gateway

    def start_haproxy(self):
        voyage = self.voyage
        rise = max(1, round(voyage.settle / voyage.check))
        servers = "".join(
            f"    server {name} 127.0.0.1:{ports['http']} check port {ports['admin']} "
            f"inter {round(voyage.check * 1000)}ms fall 2 rise {rise}\n" for name, ports in self.ports.items())
        file = self.site.directory / "haproxy.cfg"
        most = voyage.clients + voyage.clients // 8 + 200
        file.write_text(HAPROXY.format(port=self.haproxy_port, servers=servers, most=most,
                                       directory=self.site.directory))
        command = [need("haproxy", "haproxy"), "-db", "-f", file]
        self.haproxy = self.site.start("haproxy", command, [self.haproxy_port])
        until("HAProxy knows which gateways are there", lambda: self.servers_up() == set(self.gateways))

    def servers_up(self):
        """The gateways that HAProxy sends clients to."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.site.directory / "haproxy.sock"))
            connection.sendall(b"show stat\n")
            text = b""
            while received := connection.recv(65536):
                text += received
        head, *lines = (line.split(",") for line in text.decode().splitlines() if line)
        status = head.index("status")
        return {line[1] for line in lines if line[1] in self.ports and line[status].startswith("UP")}

    def start_weather(self):
        """Proxies, each for a part of the clients: a process may have at most so many files open."""
        count = -(-self.voyage.clients // 6000)
        self.proxies = []
        for number in range(count):
            listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
            pipe = self.process(bad_weather.serve, listener, self.haproxy_port, self.voyage.weather,
                                self.voyage.seed + number)
            self.proxies.append((pipe, listener.getsockname()[1]))
            listener.close()

    def process(self, function, *arguments):
        ours, theirs = multiprocessing.Pipe()
        words = (theirs, *arguments) if function is sail else (*arguments, theirs)
        process = multiprocessing.Process(target=function, args=(*words, None), daemon=True)
        process.start()
        self.processes.append((process, ours))
        return ours

    def end(self):
        for process, pipe in self.processes:
            try:
                pipe.send("end")
                process.join(3)
            except OSError:
                pass
            process.kill()

    def embark(self):
        """The clients come, and all are ready before the first message is published."""
        voyage = self.voyage
        paths = [f"/events?channel=room:{number % voyage.channels:010}" for number in range(voyage.clients)]
        # In order, all clients of a channel would come to the same gateway.
        random.Random(voyage.seed).shuffle(paths)
        for number, at in enumerate(range(0, len(paths), voyage.crew)):
            port = self.proxies[number % len(self.proxies)][1]
            self.crews.append(self.process(sail, port, paths[at:at + voyage.crew], voyage.retry))
        self.all_ready()

    def all_ready(self):
        until("all clients have a stream", lambda: self.report()["ready"] == self.voyage.clients, self.voyage.patience)

    def ask(self, pipes, order):
        for pipe in pipes:
            pipe.send(order)
        answers = []
        for pipe in pipes:
            if not pipe.poll(60):
                raise Failed("clients do not answer")
            answers.append(pipe.recv())
        return answers

    def report(self):
        """What all clients say together."""
        return combined(self.ask(self.crews, "report"))

    def cpu(self):
        """Seconds of processors of all gateways so far, those that have ended included."""
        return self.ended_cpu + sum(gateway.cpu() for gateway in self.gateways.values())

    def streams(self):
        """Streams of each gateway, as it counts them."""
        found = {}
        for name, gateway in self.gateways.items():
            lines = http_status(gateway.ports["admin"], "/metrics")[1].splitlines()
            found[name] = round(sum(float(line.rsplit(" ", 1)[1]) for line in lines
                                    if line.startswith("ssegate_streams{")))
        return found

    def replace(self, name):
        """Puts another gateway in the place of this one; what that took."""
        gateway, voyage = self.gateways[name], self.voyage
        other = name[:-1] + ("b" if name.endswith("a") else "a")
        started = time.monotonic()
        if not voyage.is_in_place:
            self.start_gateway(other)
            until(f"HAProxy sends clients to {other}", lambda: other in self.servers_up(),
                  voyage.settle + voyage.patience)
        started = time.monotonic() - started
        self.ask(self.crews, "phase")
        streams, before, cpu, begin = self.streams(), self.report(), self.cpu(), time.monotonic()
        gateway.process.terminate()
        until(f"{name} has ended", gateway.has_ended, voyage.drain + voyage.patience)
        if gateway.process.returncode != 0:
            raise Failed(f"{name} ended with {gateway.process.returncode}:\n{gateway.log.read_text()[-3000:]}")
        ended = time.monotonic() - begin
        until("all clients that were sent away are back", lambda: self.report()["away"] == 0, voyage.patience)
        after = self.report()
        window, used = time.monotonic() - begin, self.cpu() - cpu
        self.ended_cpu += gateway.cpu()
        self.site.programs.remove(gateway)
        del self.gateways[name]
        if voyage.is_in_place:
            again = time.monotonic()
            self.start_gateway(name)
            until(f"HAProxy sends clients to {name}", lambda: name in self.servers_up(),
                  voyage.settle + voyage.patience)
            started = time.monotonic() - again
        return {
            "gateway": name, "streams": streams[name], "moved": after["moved"], "ended": ended,
            "back": max(after["last_back"] - begin, 0.0), "window": window, "cpu": used,
            "received": after["received"] - before["received"],
            "opened": sum(after["ends"].values()) - sum(before["ends"].values()), "start": started,
        }


def combined(reports):
    """The reports of several processes as one."""
    whole = dict(reports[0])
    for report in reports[1:]:
        for key, value in report.items():
            if key == "last_back" or key == "longest":
                whole[key] = max(whole[key], value)
            elif key == "least":
                merged = dict(whole[key])
                for path, last in value.items():
                    merged[path] = min(merged.get(path, last), last)
                whole[key] = merged
            else:
                whole[key] = whole[key] + value
    return whole


def sail_through(binary, voyage, constants):
    """The whole run; returns what was seen, and what the model says of it."""
    more_files()
    with Site(binary) as site:
        run = Run(site, voyage)
        try:
            return measured(run, voyage, constants)
        finally:
            run.end()


def measured(run, voyage, constants):
    begin = time.monotonic()
    opened = run.cpu()
    run.embark()
    opening, opening_seconds = run.cpu() - opened, time.monotonic() - begin
    say(f"  {voyage.clients} clients are there after {opening_seconds:.1f} s: {run.streams()}")
    channels = [f"room:{number:010}" for number in range(voyage.channels)]
    padding = "x" * max(voyage.payload - 12, 0)
    publisher = Publisher(run.redis.port, channels, lambda channel, number: f"{number + 1:010} {padding}")
    is_over = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(voyage.rate, 86400.0, is_over.is_set), daemon=True)
    thread.start()
    # All of it calm: what a steady state takes.
    time.sleep(min(voyage.calm, 1.0))
    report, cpu, start = run.report(), run.cpu(), time.monotonic()
    time.sleep(voyage.calm)
    steady = {"seconds": time.monotonic() - start, "cpu": run.cpu() - cpu,
              "received": run.report()["received"] - report["received"]}
    run.ask([pipe for pipe, _ in run.proxies], "counts")
    for pipe, _ in run.proxies:
        pipe.send("bad")
    restarts = []
    for name in list(run.gateways):
        time.sleep(voyage.calm / 4)
        restarts.append(run.replace(name))
        say("  " + ", ".join(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
                             for key, value in restarts[-1].items()))
    time.sleep(voyage.calm / 4)
    for pipe, _ in run.proxies:
        pipe.send("fair")
    is_over.set()
    thread.join()
    everything = [publisher.published // voyage.channels + (at < publisher.published % voyage.channels)
                  for at in range(voyage.channels)]

    def all_have_all():
        least = run.report()["least"]
        return all(least[f"/events?channel={name}"] >= last for name, last in zip(channels, everything))

    try:
        until("all clients have the last message", all_have_all, voyage.patience)
    except Failed:
        say(f"  not all have it: {run.report()}")
    run.all_ready()
    last, streams = run.report(), run.streams()
    missing = sum(max(expected - last["least"][f"/events?channel={name}"], 0)
                  for name, expected in zip(channels, everything))
    mishaps = sum((Counter(counts) for counts in run.ask([pipe for pipe, _ in run.proxies], "counts")), Counter())
    redis = RedisClient(run.redis.port).calls()
    return {
        "voyage": voyage, "opening_cpu": opening, "steady": steady, "restarts": restarts, "mishaps": dict(mishaps),
        "published": publisher.published, "report": last, "missing": missing, "streams": streams, "redis": redis,
        "prediction": predicted(constants, voyage, opening_seconds, steady, restarts) if constants else None,
    }


def predicted(constants, voyage, opening_seconds, steady, restarts):
    """What the model says of the same."""
    load = model.Load(streams=voyage.clients, channels=voyage.channels, rate=voyage.rate, payload=voyage.payload,
                      protocol="h1")
    fleet = model.Fleet(gateways=voyage.gateways, cores=1)
    patience = storm.Patience(retry=voyage.retry, drain=voyage.drain, delay=voyage.drain_delay)
    one = model.gateway(constants, load, fleet)
    deploy = storm.deployed(constants, load, fleet, patience, voyage.is_in_place)
    drained = storm.drained(constants, load, fleet, patience)

    def arriving(rate):
        return model.arriving(constants["cpu"], load, rate / voyage.gateways)

    return {
        "opening_cpu": voyage.clients * (arriving(voyage.clients / opening_seconds) - constants["cpu"]["close"]["h1"]),
        "steady_cpu": one.cores * voyage.gateways * steady["seconds"],
        # What is cut comes back, too: that is counted, not predicted.
        "restart_cpu": sum(one.cores * voyage.gateways * each["window"]
                           + each["opened"] * arriving(each["opened"] / each["window"]) for each in restarts),
        "moved": deploy.streams, "back": voyage.drain_delay + drained.seconds,
    }


def verdict(found):
    """What is wrong, as a list of sentences; none if nothing is."""
    report, wrong = found["report"], []
    if report["lost"] or found["missing"]:
        wrong.append(f"{report['lost']} messages were lost in silence, {found['missing']} did not come at the end")
    if report["repeated"]:
        wrong.append(f"{report['repeated']} messages came twice")
    if unknown := set(report["gaps"]) - PERMITTED:
        wrong.append(f"gaps with reasons that nothing here explains: {', '.join(sorted(unknown))}")
    if report["refused"]:
        wrong.append(f"clients were refused, where a browser gives up: {dict(report['refused'])}")
    if not all(restart["moved"] for restart in found["restarts"]):
        wrong.append("a gateway was restarted without a client")
    return wrong
