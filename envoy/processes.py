"""Child processes on loopback: Envoy and MCP servers are started here, watched by what they print, and ended."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODE_MODULES = ROOT / "target/npm/node_modules"
EVERYTHING = NODE_MODULES / "@modelcontextprotocol/server-everything/dist/index.js"


class Output:
    """The lines of one output stream, as they come."""

    def __init__(self, stream):
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern, timeout=20):
        """The first match of the pattern in any line, those to come included."""
        seen = 0

        def found():
            nonlocal seen
            while seen < len(self.lines):
                if match := re.search(pattern, self.lines[seen]):
                    return match
                seen += 1
            return self._ended

        with self._changed:
            match = self._changed.wait_for(found, timeout)
        if not isinstance(match, re.Match):
            why = "it ended" if match else f"waited {timeout} s"
            raise RuntimeError(f"no output like {pattern!r}: {why}\n" + "\n".join(self.lines[-20:]))
        return match

    def follow(self):
        """Every line, those to come included, until the stream ends."""
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: seen < len(self.lines) or self._ended)
            if seen == len(self.lines):
                return
            yield self.lines[seen]
            seen += 1


class Process:
    """A running program; leaving the `with` block ends it."""

    def __init__(self, *command, env=None):
        # A session of its own, so that Ctrl-C reaches us first and the children end in order.
        self._child = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        self.out = Output(self._child.stdout)
        self.err = Output(self._child.stderr)

    @property
    def pid(self):
        return self._child.pid

    def wait(self, timeout=None):
        return self._child.wait(timeout)

    def running(self):
        return self._child.poll() is None

    def say(self, line):
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def stop(self):
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        self._child.kill()
        self._child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# So many that what one of them has learned, another has to know.
WORKERS = 2
# The one installed beside this Python, unless the environment names another.
ENVOY = Path(os.environ.get("ENVOY") or Path(sys.executable).with_name("envoy"))


def start_envoy(config_file, *options, env=None, workers=WORKERS, drain_seconds=1):
    """Envoy, ready for requests. Connections of a listener that is replaced may go on for `drain_seconds`."""
    # Without hot restart two Envoys on one machine don't meet, and none of them dies with the thread that started it.
    envoy = Process(
        ENVOY,
        *("-c", config_file, "--concurrency", str(workers), "--disable-hot-restart"),
        *("--drain-time-s", str(drain_seconds)),
        *("--file-flush-interval-msec", "10"),
        *options,
        env=env,
    )
    try:
        envoy.err.wait_for("starting workers")
        envoy.err.wait_for("starting main dispatch loop")
    except RuntimeError:
        envoy.kill()
        raise
    return envoy


def start_node_server(script, *arguments, env=None):
    """A Node server kept on loopback, and its port."""
    server = Process("node", "--require", ROOT / "envoy/loopback.cjs", script, *arguments, env=env)
    try:
        return server, int(server.out.wait_for(r"on loopback port (\d+)")[1])
    except RuntimeError:
        server.kill()
        raise RuntimeError("\n".join(["the MCP server did not start:", *server.err.lines[-10:]])) from None


def start_everything_server(port=0):
    """server-everything on the TypeScript SDK, and its port."""
    return start_node_server(EVERYTHING, "streamableHttp", env={"PORT": str(port)})
