"""The official MCP clients, unmodified, in front of a real server that is killed and started again and again."""

import re
import sys

from processes import NODE_MODULES, ROOT, Process

sys.path.append(str(ROOT / "tests/e2e"))
from mcp_servers import RestartedServer, python_with  # noqa: E402

__all__ = ["CLIENTS", "CallingClient", "RestartedServer"]

HERE = ROOT / "envoy"
CLIENTS = {
    "Python": [python_with("mcp-2"), HERE / "calling_client.py"],
    "Python 1": [python_with("mcp-1"), HERE / "calling_client.py"],
    "TypeScript": ["node", HERE / "calling_client.cjs"],
}


class CallingClient:
    """An SDK's client in one session that calls a tool when it is told to."""

    def __init__(self, name, port):
        url = f"http://127.0.0.1:{port}/mcp"
        self.process = Process(*CLIENTS[name], url, env={"NODE_PATH": str(NODE_MODULES)})

    def wait_until_ready(self):
        self.process.out.wait_for("^ready$")

    def call(self, message, tool="count"):
        """Why the call failed; None if it was answered. Messages differ from each other."""
        try:
            self.process.say(f"{tool} {message}")
            found = self.process.out.wait_for(rf"^(answered|failed) {re.escape(message)}(?:$|: (.*))")
        except (OSError, RuntimeError) as gone:
            return "\n".join([str(gone), *self.process.err.lines[-20:]])
        return None if found[1] == "answered" else found[2]

    def end(self):
        """It ends its session, as its SDK does that."""
        self.process.say("")
        return self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
