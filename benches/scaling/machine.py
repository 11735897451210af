"""Programs that run on loopback for a measurement, and what the machine says of them."""

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The slab caches that hold the ends of connections. `dentry`, one for each end, is too much
#: in use by others to be counted: it is taken as one.
SOCKET_CACHES = ("TCP", "sock_inode_cache", "filp", "eventpoll_epi", "ep_head", "lsm_inode_cache", "lsm_file_cache")
#: Files that one process may open.
MOST_FILES = 65536


class Failed(Exception):
    """A measurement that could not be made; the text says why."""


def need(program, package):
    """The path of a program, or an error that says how to install it."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        raise Failed(f"{program} is missing: apt-get install {package}")
    return found


def more_files():
    """Raises the limit of open files of this process, and of those that it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def free_port():
    """A port of loopback below those that the system hands out itself, that nobody listens on."""
    for port in range(20000 + os.getpid() % 5000 + free_port.given, 32000):
        free_port.given += 1
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("no port is free")


free_port.given = 0


def dial(port):
    """A connection to loopback that is on its way."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect_ex(("127.0.0.1", port))
    return connection


def until(what, condition, within=30.0):
    """Waits until `condition()` is true, and returns what it returned."""
    end = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        if time.monotonic() > end:
            raise Failed(f"not within {within:.0f} s: {what}")
        time.sleep(0.01)


def http_status(port, path):
    """The status and the body that a server of HTTP/1.1 on loopback responds with."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        text = b""
        while received := connection.recv(65536):
            text += received
    head, _, body = text.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if b" " in head else 0), body.decode(errors="replace")


class Program:
    """A program that ends with this process, and its log."""

    def __init__(self, directory, name, command, cores=None):
        self.name = name
        self.log = directory / f"{name}.log"
        words = [need("setpriv", "util-linux"), "--pdeathsig", "KILL", "--"]
        if cores:
            words += [need("taskset", "util-linux"), "-c", ",".join(map(str, cores))]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*words, *map(str, command)], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=directory)
        self.usage = None

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        """Seconds of processor time so far, user and system, of all threads: also those that have ended."""
        if self.usage is not None:
            return self.usage
        # The clock of another process: clock_getcpuclockid(3).
        return time.clock_gettime((~self.pid) << 3 | 2)

    def memory(self):
        """Bytes that are this process's own: not a file's (`Anonymous` of smaps_rollup)."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Anonymous:\s+(\d+) kB", text, re.M).group(1)) << 10

    def has_ended(self):
        """Whether it has ended; from then on `cpu` is what it took in all."""
        if self.usage is not None:
            return True
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.usage, self.process.returncode = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
        return True

    def listens(self, port):
        """Whether it listens; an error with its log if it has ended instead."""
        if self.has_ended():
            raise Failed(f"{self.name} has ended:\n{self.log.read_text()[-3000:]}")
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True

    def end(self):
        """Asks it to end, and kills it after ten seconds."""
        if not self.has_ended():
            self.process.terminate()
            try:
                until(f"{self.name} has ended", self.has_ended, 10)
            except Failed:
                self.process.kill()
                until(f"{self.name} has ended", self.has_ended, 10)


class Site:
    """A directory, and the programs that run in it: all of them end with it."""

    def __init__(self, binary):
        self.binary = Path(binary).resolve()
        self.directory = Path(tempfile.mkdtemp(prefix="ssegate-scale-"))
        self.directory.chmod(0o755)
        self.programs = []
        cores = sorted(os.sched_getaffinity(0))
        # What is measured has the first processor; everything else has the others.
        self.own, self.others = (cores[:1], cores[1:]) if len(cores) > 1 else (None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Nobody has to be told: what was measured was measured before.
        for program in reversed(self.programs):
            program.process.kill()
        for program in self.programs:
            program.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, name, command, ports=(), cores=None):
        program = Program(self.directory, name, command, cores)
        self.programs.append(program)
        for port in ports:
            until(f"{name} listens on {port}", lambda: program.listens(port))
        return program

    def redis(self):
        """A Redis that keeps nothing on a disk."""
        port = free_port()
        command = [need("redis-server", "redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--maxclients", "1000"]
        program = self.start(f"redis-{port}", command, [port], self.others)
        program.port = port
        return program

    def certificate(self):
        """A certificate (P-256) and its key."""
        files = self.directory / "cert.pem", self.directory / "key.pem"
        if not files[0].exists():
            subprocess.run(
                [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                 "-keyout", files[1], "-out", files[0]], check=True, capture_output=True)
        return files

    def gateway(self, name, redis, settings="", cores=None, ports=None):
        """A gateway with one shard, and its defaults but for `settings`; ready."""
        certificate, key = self.certificate()
        ports = ports or {kind: free_port() for kind in ("http", "https", "admin")}
        file = self.directory / f"{name}.yaml"
        file.write_text(
            f"""listeners:
  - address: 127.0.0.1:{ports["http"]}
  - address: 127.0.0.1:{ports["https"]}
    tls: {{ certificate: {certificate}, key: {key} }}
admin: {{ address: "127.0.0.1:{ports["admin"]}" }}
redis: {{ url: "redis://127.0.0.1:{redis.port}" }}
shards: 1
{settings}routes:
  - path: /events
    events: {{ channels: ["{{query.channel}}"] }}
""")
        program = self.start(name, [self.binary, "run", "-c", file], [ports["admin"]], cores)
        program.ports = ports
        until(f"{name} is ready", lambda: http_status(ports["admin"], "/readyz")[0] == 200)
        return program


def slab_objects():
    """Objects in use, and bytes of one, by the name of their cache; None where only root may read it."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
    except PermissionError:
        return None
    fields = [line.split() for line in lines]
    return {field[0]: (int(field[1]), int(field[3])) for field in fields}


def buffer_bytes():
    """What sockets of TCP hold in buffers, on the whole machine (`/proc/net/sockstat`, which counts pages)."""
    text = Path("/proc/net/sockstat").read_text()
    return int(re.search(r"^TCP:.* mem (\d+)", text, re.M).group(1)) * os.sysconf("SC_PAGE_SIZE")


def describe():
    """The machine, in the words of a result."""
    cpu = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M).group(1)) >> 20
    return f"{cpu.group(1) if cpu else os.uname().machine}, {os.cpu_count()} processors, {memory} GiB, " \
           f"Linux {os.uname().release}"


def say(text):
    """How far it is; to standard error, so that tables can go elsewhere."""
    print(text, file=sys.stderr, flush=True)
