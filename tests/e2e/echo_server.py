"""An MCP server with one tool, on the Python SDK 1 or 2: echo_server.py sse|json PORT"""

import socket
import sys

import uvicorn

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:
    from mcp.server.fastmcp import FastMCP

    def application(as_json):
        return add_tools(FastMCP("echo", json_response=as_json)).streamable_http_app()
else:

    def application(as_json):
        return add_tools(MCPServer("echo")).streamable_http_app(json_response=as_json)


def add_tools(server):
    @server.tool()
    def echo(message: str) -> str:
        """Says the message again."""
        return f"Echo: {message}"

    return server


def main(answers, port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    # Connections wait from here on, so that the port can be told before the server runs.
    listener.listen()
    print(f"on loopback port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(application(answers == "json"), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
