"""Real MCP servers from public packages, on loopback."""

import random
import socket
from dataclasses import dataclass

from litellm_scene import start_server
from processes import NODE_MODULES, ROOT, Process, start_everything_server

HERE = ROOT / "tests/e2e"
KINDS = ["python-sse", "python-json", "everything"]
# Those whose tools wait for lines on their input.
ECHO_KINDS = ["python-sse", "python-json", "typescript-sse", "typescript-json"]
# More of these, each named for its packages: they lose sessions, and say so, in ways of their own.
OTHER_ECHO_KINDS = [
    *(f"{packages}-{answers}" for packages in ("mcp-1.12", "mcp-1.26", "fastmcp-4") for answers in ("sse", "json")),
    "rmcp-sse",
]

# Those of LiteLLM's tests that survive no restart by themselves either.
LITELLM_KINDS = ["mcp-searxng-2.4.0", "supergateway-3.4.3-sdk-1.18.2", "supergateway-4.0.0"]


def python_with(packages):
    """The Python that has what this file of tests/e2e/requirements names: two MCP SDKs can't be installed together."""
    return ROOT / f"target/python/{packages}/bin/python"


@dataclass
class McpServer:
    process: Process
    port: int

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Open event streams would hold up an orderly end.
        self.process.kill()


def echo_command(kind):
    if kind == "rmcp-sse":
        return [ROOT / "target/rmcp_server/debug/rmcp_server"]
    packages, answers = kind.rsplit("-", 1)
    if packages == "typescript":
        return ["node", HERE / "echo_server.cjs", answers]
    if packages == "python":
        packages = "mcp-2" if answers == "sse" else "mcp-1"
    return [python_with(packages), HERE / "echo_server.py", answers]


def start(kind, port=0):
    """A server of this kind; port 0 means any that is free."""
    if kind == "everything":
        return McpServer(*start_everything_server(port))
    if kind not in ECHO_KINDS + OTHER_ECHO_KINDS:
        return McpServer(*start_server(kind, port))
    process = Process(*echo_command(kind), port, env={"NODE_PATH": str(NODE_MODULES)})
    try:
        return McpServer(process, int(process.out.wait_for(r"on loopback port (\d+)")[1]))
    except RuntimeError:
        process.kill()
        raise RuntimeError("\n".join(process.err.lines[-20:])) from None


class RestartedServer:
    """A server that is killed and started again and again, always on the same port."""

    def __init__(self, kind):
        self.kind = kind
        self.port = free_port()
        self._outputs = []
        self.start()

    def start(self):
        self._running = start(self.kind, self.port)
        self._outputs.append(self._running.process.out)

    def stop(self):
        self._running.process.kill()

    def restart(self):
        self.stop()
        self.start()

    def say(self, line):
        self._running.process.say(line)

    def counted(self):
        """The messages of all calls of `count` that ran, in all its lives; once it is stopped."""
        lines = (line for out in self._outputs for line in out.follow())
        return [line.removeprefix("counted ") for line in lines if line.startswith("counted ")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def free_port():
    """Below the range that the kernel lends to outgoing connections: one from there may be taken during a restart."""
    for port in random.sample(range(20_000, 32_000), 1000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("no port is free")
