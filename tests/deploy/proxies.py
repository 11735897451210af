#!/usr/bin/env python3
"""Each proxy of deploy/snippets, as its snippet has it, in front of a gateway: every event of a stream arrives within a second of
its publication, over HTTP/1.1 and HTTP/2; forwarded requests pass, large uploads too; the gateway learns the client's address,
and not what the client says of itself."""

import http.server
import json
import shutil
import subprocess
import sys
import threading
import time

from support import BIN, ROOT, SSEGATE, Stage, eventually, free_port, get, publish

SNIPPETS = ROOT / "deploy/snippets"
#: No event may take longer, in seconds.
LATEST = 1.0
EVENTS = 20


class Backend(http.server.BaseHTTPRequestHandler):
    """Tells the client what it was sent."""

    def do_GET(self):  # noqa: N802, the name that http.server calls
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({name.lower(): value for name, value in self.headers.items()}).encode())

    def do_POST(self):  # noqa: N802
        length = len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(length).encode())

    def log_message(self, *_):
        pass


def snippet(name, changes):
    """A snippet, with other ports and certificates. Each change must meet something."""
    text = (SNIPPETS / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, str(new))
    return text


def nginx(stage, port, plain, admin):
    site = snippet("nginx.conf", {
        "listen 443": f"listen 127.0.0.1:{port}", "127.0.0.1:8080": f"127.0.0.1:{plain}",
        "/etc/letsencrypt/live/example.org/fullchain.pem": stage.dir / "cert.pem",
        "/etc/letsencrypt/live/example.org/privkey.pem": stage.dir / "key.pem"})
    paths = "".join(f"{kind}_temp_path {stage.dir}/{kind};" for kind in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = stage.write("nginx.conf", f"daemon off; pid {stage.dir}/nginx.pid; error_log stderr; events {{ }}\n"
                                       f"http {{ access_log off; {paths}\n{site}\n}}\n")
    stage.start(shutil.which("nginx", path="/usr/sbin:/usr/bin"), "-c", config, "-p", stage.dir, port=port)


def caddy(stage, port, plain, admin):
    site = snippet("Caddyfile", {"example.org {": f"https://example.org:{port} {{\n\tbind 127.0.0.1\n"
                                 f"\ttls {stage.dir}/cert.pem {stage.dir}/key.pem", "127.0.0.1:8080": f"127.0.0.1:{plain}"})
    config = stage.write("Caddyfile", "{\n\tadmin off\n\tauto_https disable_redirects\n"
                                      f"\tstorage file_system {stage.dir}/caddy\n\tservers {{\n\t\tprotocols h1 h2\n\t}}\n}}\n" + site)
    stage.start(BIN / "caddy", "run", "--adapter", "caddyfile", "--config", config, port=port, HOME=str(stage.dir))


def haproxy(stage, port, plain, admin):
    (stage.dir / "both.pem").write_text((stage.dir / "cert.pem").read_text() + (stage.dir / "key.pem").read_text())
    config = stage.write("haproxy.cfg", snippet("haproxy.cfg", {
        "maxconn 40000": "maxconn 1000", ":443": f"127.0.0.1:{port}", "/etc/haproxy/example.org.pem": stage.dir / "both.pem",
        "127.0.0.1:8080 check port 9464": f"127.0.0.1:{plain} check port {admin}"}))
    stage.start(shutil.which("haproxy", path="/usr/sbin:/usr/bin"), "-db", "-f", config, port=port)


def traefik(stage, port, plain, admin):
    text = (SNIPPETS / "traefik.yaml").read_text()
    static = "\n".join(line[4:] for line in text.splitlines() if line.startswith("#   "))
    assert static.count('":443"') == 1, static
    dynamic = stage.write("dynamic.yaml", snippet("traefik.yaml", {
        "127.0.0.1:8080": f"127.0.0.1:{plain}", "port: 9464": f"port: {admin}",
        "/etc/traefik/example.org.crt": stage.dir / "cert.pem", "/etc/traefik/example.org.key": stage.dir / "key.pem"}))
    config = stage.write("traefik.yaml", static.replace('":443"', f'"127.0.0.1:{port}"')
                         + f"\nproviders: {{ file: {{ filename: {dynamic}, watch: false }} }}\n"
                           "global: { checkNewVersion: false, sendAnonymousUsage: false }\n")
    stage.start(BIN / "traefik", f"--configfile={config}", port=port)


def curl(port, *arguments):
    return ["curl", "-sNk", "--max-time", "30", "--resolve", f"example.org:{port}:127.0.0.1", *arguments]


class Stream:
    """An event stream through a proxy, read by curl: when each event arrived."""

    def __init__(self, port, version, path):
        command = curl(port, version, "-D", "-", f"https://example.org:{port}{path}")
        self.curl = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines, self.arrived = [], {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.curl.stdout:
            self.lines.append(line.strip())
            if line.startswith("data: "):
                self.arrived[line[6:].strip()] = time.monotonic()

    def end(self):
        self.curl.terminate()
        self.curl.wait(5)


def check(name, start, stage, ports, redis):
    plain, admin = ports
    port = free_port()
    start(stage, port, plain, admin)
    url = f"https://example.org:{port}"

    def forwarded():
        answer = subprocess.run(curl(port, "-f", "-H", "X-Forwarded-For: 6.6.6.6", "-H", "X-Forwarded-Proto: http",
                                     url + "/hello"), capture_output=True, text=True, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else None

    headers = eventually(f"{name} forwards", forwarded)
    told = (headers.get("x-forwarded-for", "").split(",")[0], headers.get("x-forwarded-proto"), headers.get("host").split(":")[0])
    assert told == ("127.0.0.1", "https", "example.org"), (name, told)
    # More than nginx takes by itself. The gateway has no limit by default.
    upload = stage.dir / "upload"
    upload.write_bytes(b"x" * (3 << 20))
    stored = subprocess.run(curl(port, "--data-binary", f"@{upload}", url + "/upload"), capture_output=True, text=True, check=True)
    assert stored.stdout == str(3 << 20), (name, stored.stdout)
    streams = {version: Stream(port, version, f"/events/{name}") for version in ("--http1.1", "--http2")}
    for version, stream in streams.items():
        eventually(f"{name}: a stream with {version}", lambda: ": ready" in stream.lines)
        status = "HTTP/2 200" if version == "--http2" else "HTTP/1.1 200"
        assert stream.lines[0].startswith(status), (name, version, stream.lines[:9])
    published = {}
    for number in range(EVENTS):
        published[f"event {number}"] = time.monotonic()
        assert publish(redis, name, f"event {number}") == 1
        time.sleep(0.05)
    worst = {}
    for version, stream in streams.items():
        eventually(f"{name}: all events over {version}", lambda: len(stream.arrived) == EVENTS)
        worst[version] = max(stream.arrived[event] - at for event, at in published.items())
        stream.end()
    assert max(worst.values()) < LATEST, (name, worst)
    return " ".join(f"{version.strip('-')} {seconds * 1000:.0f} ms" for version, seconds in worst.items())


def main():
    with Stage() as stage:
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=example.org", "-addext", "subjectAltName=DNS:example.org", "-keyout", stage.dir / "key.pem",
                        "-out", stage.dir / "cert.pem"], check=True, capture_output=True)
        _, redis = stage.redis()
        plain, admin = free_port(), free_port()
        config = stage.write("gateway.yaml", f"""
listeners: [{{ address: "127.0.0.1:{plain}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
trusted_proxies: [127.0.0.1]
redis: {{ url: "redis://127.0.0.1:{redis}" }}
routes:
  - path: /events/{{channel}}
    events: {{ channels: ["{{channel}}"] }}
  - path: /{{*rest}}
    proxy: {{ upstream: "http://127.0.0.1:{backend.server_port}" }}
""")
        stage.start(SSEGATE, "run", "-c", config, port=admin)
        eventually("the gateway is ready", lambda: get(f"http://127.0.0.1:{admin}/readyz")[0] == 200)
        proxies = {"nginx": nginx, "caddy": caddy, "haproxy": haproxy, "traefik": traefik}
        for name in sys.argv[1:] or proxies:
            print(f"{name}: the latest of {EVENTS} events: {check(name, proxies[name], stage, (plain, admin), redis)}", flush=True)


if __name__ == "__main__":
    main()
