"""The demo's MCP server, on the official Python SDK: it gives every client a session, and insists on it."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("echo", log_level="WARNING")


@server.tool()
def echo(message: str) -> str:
    """Says the message again."""
    return f"Echo: {message}"


if __name__ == "__main__":
    server.run("streamable-http", host="0.0.0.0", port=3001)
