"""Real MCP servers from public packages, on loopback."""

from dataclasses import dataclass

from processes import NODE_MODULES, ROOT, Process, start_everything_server

HERE = ROOT / "tests/e2e"
KINDS = ["python-sse", "python-json", "everything"]
# Those whose tools wait for lines on their input.
ECHO_KINDS = ["python-sse", "python-json", "typescript-sse", "typescript-json"]


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


def echo_command(kind):
    language, answers = kind.split("-")
    if language == "typescript":
        return ["node", HERE / "echo_server.cjs", answers]
    return [sdk_python(2 if answers == "sse" else 1), HERE / "echo_server.py", answers]


def start(kind, port=0):
    """A server of this kind; port 0 means any that is free."""
    if kind == "everything":
        return McpServer(*start_everything_server(port))
    process = Process(*echo_command(kind), port, env={"NODE_PATH": str(NODE_MODULES)})
    try:
        return McpServer(process, int(process.out.wait_for(r"on loopback port (\d+)")[1]))
    except RuntimeError:
        process.kill()
        raise RuntimeError("\n".join(process.err.lines[-20:])) from None
