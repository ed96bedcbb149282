"""What `docker compose` does with the demo's files, in an engine of the tests' own."""

import contextlib
import json
import os
import signal

from processes import ROOT
from silent_client import BOTH, INITIALIZE, request

DEMO = ROOT / "envoy/compose"
# To build LiteLLM's image takes most of it.
PATIENCE = 1800

INITIALIZE_REQUEST = request("initialize", INITIALIZE, 0)
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class Composed:
    """What `docker compose -f FILE` does; leaving the `with` block takes it all down."""

    def __init__(self, engine, file="compose.yaml", folder=DEMO):
        self.engine = engine
        self._folder = folder
        self._command = ["docker", "compose", "-f", file]

    def compose(self, *arguments, env=None):
        return self.engine.run(*self._command, *arguments, folder=self._folder, env=env)

    def start(self, *arguments):
        return self.engine.start(*self._command, *arguments, folder=self._folder)

    def curl(self, address, *options):
        """What curl prints that somebody starts on the machine that the ports are published on."""
        return self.engine.succeed("curl", "--silent", *options, f"http://127.0.0.1:{address}")

    def counter(self, outcome):
        return int(self.curl(f"9901/stats?filter=^wasmcustom.mcp_session.{outcome}$").rpartition(": ")[2])

    def log(self, service):
        said = self.compose("logs", "--no-log-prefix", service)
        # It clears lines even where there is no terminal.
        return (said.stdout + said.stderr).replace("\x1b[2K", "")

    def running(self):
        return self.compose("ps", "--services").stdout.split()

    def python(self, service, code):
        """What a Python in this container prints."""
        return self.compose("exec", "--no-TTY", service, "python", "-c", code)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.compose("down", "--timeout", "5")


class Up(Composed):
    """`docker compose up`, on until Ctrl-C; its client has ended."""

    def __enter__(self):
        with contextlib.ExitStack() as starting:
            starting.push(super().__exit__)
            self._up = self.start("up")
            starting.callback(self._interrupt)
            try:
                self.exit_code = int(self._up.out.wait_for(r"client-1 exited with code (\d+)", PATIENCE)[1])
            except RuntimeError as failure:
                raise RuntimeError("\n".join([str(failure), *self._up.err.lines[-20:]])) from None
            self.said = self.log("client")
            starting.pop_all()
        return self

    def _interrupt(self):
        # As a terminal does it: to all processes that it has in the foreground.
        os.killpg(self._up.pid, signal.SIGINT)
        try:
            self._up.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._up.pid, signal.SIGKILL)

    def __exit__(self, *failure):
        try:
            self._interrupt()
            assert self.running() == []
        finally:
            super().__exit__(*failure)


def row(said, name):
    """The cells of the one row of this name."""
    [line] = [line for line in said.splitlines() if line.startswith(f"{name} ")]
    return [cell.strip() for cell in line.removeprefix(name).split("  ") if cell.strip()]


def post(message, *options):
    headers = ["--header", "content-type: application/json", "--header", f"accept: {BOTH}"]
    return [*headers, "--data", json.dumps(message), "--output", "/dev/null", "--write-out", "%{http_code}", *options]
