"""Real MCP servers from public packages, on loopback."""

from dataclasses import dataclass

from processes import ROOT, Process, start_everything_server

HERE = ROOT / "tests/e2e"
KINDS = ["python-sse", "python-json", "everything"]


def sdk_python(major):
    """The Python that has this major version of the MCP SDK: the two can't be installed together."""
    return ROOT / f"target/python/mcp-{major}/bin/python"


@dataclass
class McpServer:
    process: Process
    port: int

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Open event streams would hold up an orderly end.
        self.process.kill()


def start(kind, port=0):
    """A server of this kind; port 0 means any that is free."""
    if kind == "everything":
        return McpServer(*start_everything_server(port))
    major, answers = {"python-sse": (2, "sse"), "python-json": (1, "json")}[kind]
    process = Process(sdk_python(major), HERE / "echo_server.py", answers, port)
    try:
        return McpServer(process, int(process.out.wait_for(r"on loopback port (\d+)")[1]))
    except RuntimeError:
        process.kill()
        raise RuntimeError("\n".join(process.err.lines[-20:])) from None
