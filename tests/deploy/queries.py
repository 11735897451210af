#!/usr/bin/env python3
"""Every expression of the dashboard, the alerts and the recording rules returns data, in a real Prometheus that scrapes a
gateway with some traffic. What may be empty by nature is listed here, with the reason."""

import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.parse

import yaml

from support import ROOT, SSEGATE, Stage, eventually, free_port, get, publish

PROMETHEUS = ROOT / "deploy/prometheus"

#: Expressions that are empty while all is well, with the reason.
EMPTY_BY_NATURE = {
    "SsegateAbsent": "absent() is empty as long as there is a gateway",
    "SsegateRedisNodeDown": "only a Redis Cluster has nodes",
    "SsegateConnectionsFull": "the series begins with the first connection over the limit",
    "Starts": "shows starts only",
    "Alerts": "shows alerts that fire only",
}


class Backend(http.server.BaseHTTPRequestHandler):
    """Responds to everything."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802, the name that http.server calls
        body = b"hello\n"
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def gateway_yaml(ports, backend, dead, redis):
    return f"""
listeners:
  - {{ address: "127.0.0.1:{ports[0]}", tls: {{ self_signed: true }} }}
  - {{ address: "127.0.0.1:{ports[1]}" }}
admin: {{ address: "127.0.0.1:{ports[2]}" }}
redis: {{ url: "redis://127.0.0.1:{redis}" }}
max_event_bytes: 1KiB
timeouts: {{ first_request: 200ms }}
routes:
  - path: /entries/{{channel}}
    events: {{ channels: ["{{channel}}"], source: stream }}
  - path: /events/{{channel}}
    events: {{ channels: ["{{channel}}"] }}
  - path: /dead
    proxy: {{ upstream: "http://127.0.0.1:{dead}" }}
  - path: /{{*rest}}
    proxy: {{ upstream: "http://127.0.0.1:{backend}" }}
"""


def traffic(stage, ports, redis):
    """Streams, events, gaps, requests, errors: some of each."""
    tls, plain, admin = ports
    for url in (f"https://127.0.0.1:{tls}/events/news", f"http://127.0.0.1:{plain}/events/news"):
        stage.start("curl", "-sNk", "--http2", "--max-time", "120", url)
        stage.start("curl", "-sNk", "--max-time", "120", "-H", "Last-Event-ID: unknown-7", url)
    stage.start("curl", "-sN", "--max-time", "120", f"http://127.0.0.1:{plain}/entries/orders")
    open_streams = lambda: sum(v for n, v in metrics(admin) if n.startswith("ssegate_streams{")) == 5
    eventually("five streams are open", open_streams)

    silent = []

    def some_more():
        # Says nothing, and is closed.
        silent.append(socket.create_connection(("127.0.0.1", plain)))
        for number in range(3):
            publish(redis, "news", f"event {number}")
        publish(redis, "news", "x" * 2000)
        subprocess.run(["redis-cli", "-p", str(redis), "XADD", "orders", "*", "data", "shipped"], check=True,
                       stdout=subprocess.DEVNULL)
        for path in ("/", "/broken", "/dead", "/events/news%00"):
            get(f"http://127.0.0.1:{plain}{path}")
        subprocess.run(["curl", "-sd", "hello", f"http://127.0.0.1:{admin}/publish/news"], check=True,
                       stdout=subprocess.DEVNULL)
        # Leaves at once: closed streams have an age.
        subprocess.run(["curl", "-sN", "--max-time", "0.2", f"http://127.0.0.1:{plain}/events/news"], check=False,
                       stdout=subprocess.DEVNULL)

    return some_more


def metrics(admin):
    lines = get(f"http://127.0.0.1:{admin}/metrics")[1].splitlines()
    return [(line.rsplit(" ", 1)[0], float(line.rsplit(" ", 1)[1])) for line in lines if not line.startswith("#")]


def expressions():
    """All of them: (where it stands, the expression)."""
    for name in ("rules.yml", "alerts.yml"):
        for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield rule["record"], rule["record"]
                else:
                    # Without the threshold, which nothing has reached.
                    yield rule["alert"], re.sub(r" (>|<|==) ", r" \1 bool ", rule["expr"])
    dashboard = json.loads((ROOT / "deploy/grafana/ssegate.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def main():
    with Stage() as stage:
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        redis_process, redis = stage.redis()
        ports = [free_port() for _ in range(3)]
        config = stage.write("gateway.yaml", gateway_yaml(ports, backend.server_port, free_port(), redis))
        stage.start(SSEGATE, "run", "-c", config, port=ports[2], XDG_STATE_HOME=str(stage.dir), HOME=str(stage.dir))
        some_more = traffic(stage, ports, redis)

        address = f"127.0.0.1:{free_port()}"
        scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        scrape["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        scrape["rule_files"] = [str(PROMETHEUS / name) for name in scrape["rule_files"]]
        scrape["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[2]}"]
        stage.start("prometheus", f"--config.file={stage.write('prometheus.yml', yaml.safe_dump(scrape))}",
                    f"--storage.tsdb.path={stage.dir / 'data'}", f"--web.listen-address={address}",
                    port=int(address.split(":")[1]))

        def ask(expr):
            for variable, value in (("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "20s")):
                expr = expr.replace(variable, value)
            text = get(f"http://{address}/api/v1/query?query={urllib.parse.quote(expr)}")[1]
            answer = json.loads(text)
            if answer["status"] != "success":
                sys.exit(f"{expr}\n{text}")
            return [sample for sample in answer["data"]["result"] if sample["value"][1] != "NaN"]

        asked = list(expressions())
        names = {name for name, _ in asked}
        for name in EMPTY_BY_NATURE:
            assert name in names, f"no expression is called {name}"
        missing = [(name, expr) for name, expr in asked if name not in EMPTY_BY_NATURE]

        def all_have_data():
            nonlocal missing
            some_more()
            missing = [(name, expr) for name, expr in missing if not ask(expr)]
            return not missing

        try:
            eventually("all have data", all_have_data)
        except SystemExit:
            sys.exit("no data:\n" + "\n".join(f"  {name}: {expr}" for name, expr in missing))
        for name, expr in asked:
            if name in EMPTY_BY_NATURE:
                ask(expr)  # it is understood
        rules = json.loads(get(f"http://{address}/api/v1/rules")[1])["data"]["groups"]
        unhealthy = [rule for group in rules for rule in group["rules"] if rule["health"] != "ok"]
        assert not unhealthy, unhealthy

        # Redis goes away: the alert is on its way, and the gateway stays in the load balancer as the chart has it.
        stage.end(redis_process)
        eventually("SsegateRedisDown is pending", lambda: ask('ALERTS{alertname="SsegateRedisDown"}'))
        ready = [get(f"http://127.0.0.1:{ports[2]}/readyz{query}")[0] for query in ("", "?exclude=redis")]
        assert ready == [503, 200], ready
        assert get(f"http://127.0.0.1:{ports[1]}/")[0] == 200
        print(f"{len(asked)} expressions, {len(EMPTY_BY_NATURE)} of them empty by nature")


if __name__ == "__main__":
    main()
