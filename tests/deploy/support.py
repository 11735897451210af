"""What these checks share: programs that listen on loopback, and end with the check."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))

from scaling.machine import Failed, until  # noqa: E402

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BIN = TARGET / "deploy/venv/bin"
#: The program that the tests have built.
SSEGATE = os.environ.get("SSEGATE", str(TARGET / "debug/ssegate"))
SOON = 15.0


def free_port():
    """A port of loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(what, condition, within=SOON):
    """Waits until `condition()` is true, and returns what it returned."""
    try:
        return until(what, condition, within)
    except Failed as error:
        sys.exit(str(error))


def get(url, timeout=5, **headers):
    """The status and the body of a response."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Stage:
    """A directory, and the programs that run in it. Each ends with the stage."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="ssegate-deploy-"))
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            self.end(process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def write(self, name, text):
        """A file of the stage."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, *command, port=None, **env):
        """Starts a program, and waits until it listens on `port`."""
        log = self.dir / f"{Path(command[0]).name}-{len(self.running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen([str(part) for part in command], cwd=self.dir, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=out, env={**os.environ, **env})
        self.running.append(process)

        def listens():
            if process.poll() is not None:
                sys.exit(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True

        if port:
            eventually(f"{command[0]} listens", listens)
        return process

    @staticmethod
    def end(process):
        """Ends a program that this stage has started."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def redis(self):
        """A Redis: its process and its port."""
        port = free_port()
        return self.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", port=port), port


def publish(port, channel, text):
    """Publishes with RESP; returns how many listen."""
    with socket.create_connection(("127.0.0.1", port), 5) as redis:
        parts = [b"PUBLISH", channel.encode(), text.encode()]
        redis.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return int(redis.makefile("rb").readline()[1:])
