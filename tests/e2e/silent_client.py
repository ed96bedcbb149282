"""A client that speaks MCP but never sends a session id."""

import contextlib
import http.client
import json
from dataclasses import dataclass

BOTH = "application/json, text/event-stream"
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "silent-client", "version": "1.0"},
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def session(self):
        return self.header("mcp-session-id")

    @property
    def result(self):
        """The JSON-RPC result, from plain JSON or from an event stream: there it comes last."""
        text = self.body.decode()
        if "text/event-stream" in self.header("content-type"):
            data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
            text = [line for line in data if line][-1]
        message = json.loads(text)
        assert "result" in message, message
        return message["result"]


class SilentClient:
    """Each request takes a connection of its own, so that any worker of Envoy may get it.

    With a protocol version it is named on every request but the initialize.
    """

    def __init__(self, port, headers=(), source="127.0.0.1", authority=None, version=None, tls=None):
        self.port = port
        self.headers = list(headers)
        self.source = (source, 0)
        self.authority = authority or f"127.0.0.1:{port}"
        self.version = [("mcp-protocol-version", version)] if version else []
        self.tls = tls

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=30, source_address=self.source, context=self.tls
            )
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=self.source)

    def send(self, method, path="/mcp", headers=(), body=None):
        """The connection with this request on its way; header values may be bytes."""
        connection = self.connect()
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("host", self.authority)
        for name, value in [*self.headers, *headers]:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        return connection

    def request(self, method, path="/mcp", headers=(), body=None):
        return self.receive(self.send(method, path, headers, body))

    def receive(self, connection):
        try:
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def post(self, message, headers=(("accept", BOTH),), path="/mcp"):
        version = [] if message.get("method") == "initialize" else self.version
        headers = [("content-type", "application/json"), *version, *headers]
        return self.request("POST", path, headers, json.dumps(message).encode())

    def call(self, method, params=None, **options):
        return self.post(request(method, params), **options)

    def initialize(self, **options):
        return self.call("initialize", INITIALIZE, **options)

    def initialized(self):
        return self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def list_tools(self, **options):
        return self.call("tools/list", **options)

    def call_echo(self, words):
        return self.call("tools/call", {"name": "echo", "arguments": {"message": words}})

    @contextlib.contextmanager
    def stream(self):
        """The head of the answer to a GET for server-sent events, whose stream stays open inside the block."""
        connection = self.send("GET", headers=[("accept", "text/event-stream"), *self.version])
        answer = connection.getresponse()
        try:
            yield Reply(answer.status, answer.getheaders(), b"")
        finally:
            answer.close()
            connection.close()

    def delete(self):
        return self.request("DELETE", headers=self.version)


def request(method, params=None, number=1):
    message = {"jsonrpc": "2.0", "id": number, "method": method}
    return message if params is None else {**message, "params": params}
