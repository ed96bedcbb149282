"""An MCP server on FastMCP, or the Python SDK 1 or 2: echo_server.py sse|json PORT

What its tools wait for comes as lines on its input, each the name of a call that may go on.
"""

import asyncio
import collections
import contextlib
import importlib.util
import socket
import sys
import threading

import uvicorn

if importlib.util.find_spec("fastmcp"):
    from fastmcp import Context, FastMCP

    def application(as_json):
        return add_tools(FastMCP("echo")).http_app(json_response=as_json)
elif importlib.util.find_spec("mcp.server.mcpserver"):
    from mcp.server.mcpserver import Context, MCPServer

    def application(as_json):
        return add_tools(MCPServer("echo")).streamable_http_app(json_response=as_json)
else:
    from mcp.server.fastmcp import Context, FastMCP

    def application(as_json):
        return add_tools(FastMCP("echo", json_response=as_json)).streamable_http_app()


lines = collections.defaultdict(lambda: asyncio.Semaphore(0))
lonely = []


def add_tools(server):
    @server.tool()
    def echo(message: str) -> str:
        """Says the message again."""
        return f"Echo: {message}"

    @server.tool()
    async def count(message: str) -> str:
        """Says the message again, and prints it: a call that ran twice is seen."""
        print(f"counted {message}", flush=True)
        return f"Echo: {message}"

    @server.tool()
    async def overtaken(message: str) -> str:
        """Says the message again; every second call is answered before the one that came before it."""
        if lonely:
            lonely.pop().set()
            return f"Echo: {message}"
        partner = asyncio.Event()
        lonely.append(partner)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(partner.wait(), 0.1)
        if partner in lonely:
            lonely.remove(partner)
        return f"Echo: {message}"

    @server.tool()
    async def progress(name: str, steps: int, context: Context) -> str:
        """Tells each step after a line with this name."""
        for step in range(1, steps + 1):
            await lines[name].acquire()
            await context.report_progress(step, steps, name)
        return f"Done: {name}"

    @server.tool()
    async def wait(name: str) -> str:
        """Waits for a line with this name, and prints when it begins and if it is cancelled."""
        print(f"waiting {name}", flush=True)
        try:
            await lines[name].acquire()
        except asyncio.CancelledError:
            print(f"cancelled {name}", flush=True)
            raise
        return f"Done: {name}"

    return server


def read_lines(loop):
    for line in sys.stdin:
        loop.call_soon_threadsafe(lambda name=line.strip(): lines[name].release())


async def serve(answers, listener):
    threading.Thread(target=read_lines, args=[asyncio.get_running_loop()], daemon=True).start()
    config = uvicorn.Config(application(answers == "json"), log_level="warning")
    await uvicorn.Server(config).serve(sockets=[listener])


def main(answers, port):
    # Only where the protocol is named does asyncio send small pieces at once, as it does by itself elsewhere.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    # Connections wait from here on, so that the port can be told before the server runs.
    listener.listen()
    print(f"on loopback port {listener.getsockname()[1]}", flush=True)
    asyncio.run(serve(answers, listener))


if __name__ == "__main__":
    main(*sys.argv[1:])
