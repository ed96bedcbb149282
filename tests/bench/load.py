"""Load from oha, and the CPU time of the process under it."""

import http.client
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from processes import ROOT

OHA = ROOT / "target/tools/bin/oha"
CONNECTIONS = 8
BOTH = ("accept", "application/json, text/event-stream")
JSON = ("content-type", "application/json")


@dataclass(frozen=True)
class Request:
    """A request that is sent again and again."""

    method: str = "POST"
    path: str = "/mcp"
    # A regular expression, of which each request gets a random match.
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    # A file, as bodies may be large.
    body: str | None = None

    def all_headers(self):
        return [BOTH, *([JSON] if self.body else []), *self.headers]

    def options(self, port):
        """What makes oha send it."""
        address = f"http://127.0.0.1:{port}{self.path}"
        options = ["--method", self.method]
        if self.body:
            options += ["-D", self.body]
        for name, value in self.all_headers():
            options += ["-H", f"{name}: {value}"]
        if self.query:
            return [*options, "--rand-regex-url", address.replace(".", "[.]") + "[?]" + self.query]
        return [*options, address]


@dataclass(frozen=True)
class Load:
    """What came of a number of requests: times in microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float
    # The part of it that is not Envoy's.
    service_cpu: float = 0.0


def cpu_clock(pid):
    """The number of the clock that counts the CPU time of all threads of a process, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def ask(envoy, request):
    """Sends it once, and gives the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=30)
    body = Path(request.body).read_bytes() if request.body else None
    connection.request(request.method, request.path, body, dict(request.all_headers()))
    answer = connection.getresponse()
    answer.read()
    return answer


def send(envoy, request, count, rate=None, service=None):
    """Sends so many requests, at this rate or as fast as they are answered; all have to be answered 200.

    The CPU time of a service that Envoy asks counts as its own.
    """
    command = [OHA, "--no-tui", "--output-format", "json", "-n", count, "-c", min(CONNECTIONS, count)]
    if rate:
        command += ["-q", rate]
    clocks = [cpu_clock(process.pid) for process in (envoy.process, service) if process]
    before = [time.clock_gettime_ns(clock) for clock in clocks]
    command += request.options(envoy.port)
    run = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, timeout=120)
    used = [(time.clock_gettime_ns(clock) - start) / 1e3 / count for clock, start in zip(clocks, before, strict=True)]
    if run.returncode:
        raise RuntimeError(f"oha failed: {run.stderr.strip()[-500:]}")
    found = json.loads(run.stdout)
    if found["statusCodeDistribution"] != {"200": count}:
        raise RuntimeError(f"not {count} times 200: {found['statusCodeDistribution']} {found['errorDistribution']}")
    times = found["latencyPercentiles"]
    rate, (p50, p99) = found["summary"]["requestsPerSec"], (times[name] * 1e6 for name in ("p50", "p99"))
    return Load(rate, p50, p99, sum(used), sum(used[1:]))
