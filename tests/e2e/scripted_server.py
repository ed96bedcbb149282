"""HTTP/1.1 servers that answer as they are told and keep every request that reached them."""

import asyncio
import itertools
import json
from dataclasses import dataclass, field

from http1 import read_message
from loopback_server import LoopbackServer

EVENT_STREAM = ("content-type", "text/event-stream")
JSON = ("content-type", "application/json")


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    # An event stream that goes on after this body, until the client leaves.
    goes_on: bool = False

    def encode(self):
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in self.headers)]
        if self.goes_on:
            lines.append("transfer-encoding: chunked")
            body = f"{len(self.body):x}\r\n".encode() + self.body + b"\r\n" if self.body else b""
        else:
            if self.status not in (204, 304):
                lines.append(f"content-length: {len(self.body)}")
            body = self.body
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class ScriptedServer(LoopbackServer):
    """`answer` turns each request into an Answer."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        # Requests that ended early.
        self.broken = 0
        super().__init__()

    def __str__(self):
        return f"{len(self.requests)} requests came whole, {self.broken} broke"

    async def serve(self, reader, writer):
        try:
            while request := await read_message(reader):
                answer = self._note(request)
                await self.write(writer, answer)
                if answer.goes_on:
                    await reader.read()
                    return
        except asyncio.IncompleteReadError:
            with self.changed:
                self.broken += 1
                self.changed.notify_all()

    async def write(self, writer, answer):
        writer.write(answer.encode())
        await writer.drain()

    def _note(self, request):
        with self.changed:
            self.requests.append(request)
            answer = self.answer(request)
            self.changed.notify_all()
            return answer

    @property
    def last(self):
        return self.requests[-1]


class FakeMcpServer(ScriptedServer):
    """As strict as the real ones: 400 without a session id, 404 for one that it does not know.

    Each answer tells in `result.session` which session it was given in.
    """

    def __init__(self, name="session"):
        self.sessions = set()
        self._names = (f"{name}-{number}" for number in itertools.count(1))
        super().__init__(self._answer)

    def _answer(self, request):
        try:
            message = json.loads(request.body) if request.body else {}
        except (ValueError, RecursionError):
            return error(400, "not JSON")
        session = request.header("mcp-session-id")
        if isinstance(message, dict) and message.get("method") == "initialize":
            session = next(self._names)
            self.sessions.add(session)
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "serverInfo": {"name": "fake", "version": "1"},
            }
            return reply(message, result, session)
        if not session:
            return error(400, "no session id")
        if session not in self.sessions:
            return error(404, "unknown session")
        if request.method == "DELETE":
            self.sessions.discard(session)
            return Answer()
        if request.method == "GET":
            return Answer(200, [EVENT_STREAM], b": open\n\n", goes_on=True)
        if isinstance(message, dict) and message.get("method") == "refuse":
            return error(message["params"]["status"], "refused for a reason of its own")
        if not isinstance(message, dict) or "id" not in message:
            return Answer(202)
        return reply(message, {"session": session})


def reply(message, result, session=None):
    headers = [JSON, *([("mcp-session-id", session)] if session else [])]
    body = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
    return Answer(200, headers, json.dumps(body).encode())


def error(status, words):
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": words}}
    return Answer(status, [JSON], json.dumps(body).encode())
