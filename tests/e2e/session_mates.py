"""Clients of one caller that share a session. Each keeps one connection, as most real ones do."""

import asyncio
import contextlib
import itertools
import json

from http1 import read_message
from silent_client import BOTH, INITIALIZE

VERSION = INITIALIZE["protocolVersion"]
# No answer takes this long, however busy the machine is.
PATIENCE = 10

keys = (f"mate-{number}" for number in itertools.count())


def compact(message):
    return json.dumps(message, separators=(",", ":")).encode()


def call(number, tool, progress_token=None, **arguments):
    """A tools/call in the order of keys that both SDKs write: the id comes last."""
    params = {"name": tool, "arguments": arguments}
    if progress_token is not None:
        params["_meta"] = {"progressToken": progress_token}
    return {"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": number}


def in_pieces(body, size):
    return [body[at : at + size] for at in range(0, len(body), size)]


def chunks(pieces):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def encode(headers, body, piece=None, method="POST"):
    """A request as it goes over the wire; with a size of its pieces in chunks, else with a content-length."""
    framing = ("transfer-encoding", "chunked") if piece else ("content-length", str(len(body)))
    lines = [f"{method} /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in [*headers, framing])]
    return "\r\n".join([*lines, "", ""]).encode() + (chunks(in_pieces(body, piece)) if piece else body)


def messages(answer):
    """The JSON texts in an answer, spelled as they came."""
    if "text/event-stream" not in (answer.header("content-type") or ""):
        return [answer.body] if answer.body else []
    data = (line[5:].strip() for line in answer.body.splitlines() if line.startswith(b"data:"))
    return [text for text in data if text]


class Mate:
    """Opened by `async with`. Without a session of its own it relies on the filter to name the caller's."""

    def __init__(self, port, key, session=None):
        self.port = port
        self.key = key
        self.session = session

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def headers(self):
        session = [("mcp-session-id", self.session)] if self.session else []
        return [
            *[("host", f"127.0.0.1:{self.port}"), ("x-api-key", self.key), *session, ("mcp-protocol-version", VERSION)],
            *[("content-type", "application/json"), ("accept", BOTH)],
        ]

    async def send(self, body, headers=(), **framing):
        self.writer.write(encode([*self.headers(), *headers], body, **framing))
        await self.writer.drain()

    async def receive(self):
        return await asyncio.wait_for(read_message(self.reader, is_answer=True), PATIENCE)

    async def post(self, body, headers=(), **framing):
        await self.send(body, headers, **framing)
        return await self.receive()

    async def initialize(self, number=0):
        """The answer to an initialize, which names neither session nor version."""
        body = compact({"method": "initialize", "params": INITIALIZE, "jsonrpc": "2.0", "id": number})
        headers = [pair for pair in self.headers() if not pair[0].startswith("mcp-")]
        self.writer.write(encode(headers, body))
        answer = await self.receive()
        assert answer.first_line.split(" ")[1] == "200", answer
        return answer

    async def initialized(self):
        answer = await self.post(compact({"method": "notifications/initialized", "jsonrpc": "2.0"}))
        assert answer.first_line.split(" ")[1] == "202", answer

    async def events(self):
        """Reads the head of an event stream; then gives the data of each event when it comes, until the stream ends."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 200") and b"transfer-encoding: chunked" in head, head
        text = b""
        while size := int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), PATIENCE), 16):
            text += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            *events, text = text.replace(b"\r\n", b"\n").split(b"\n\n")
            for event in events:
                data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
                if data:
                    yield json.loads(data)
        await self.reader.readexactly(2)


@contextlib.asynccontextmanager
async def mates(port, key, count, reuse=False):
    """So many clients in one session. With reuse each opens it for itself; else one does, and they name none."""
    async with contextlib.AsyncExitStack() as stack:
        all_of_them = [await stack.enter_async_context(Mate(port, key)) for _ in range(count)]
        if reuse:
            opened = await asyncio.gather(*(mate.initialize(number) for number, mate in enumerate(all_of_them)))
            for number, (mate, answer) in enumerate(zip(all_of_them, opened)):
                [message] = map(json.loads, messages(answer))
                assert message["id"] == number and message["result"]["protocolVersion"] == VERSION, message
                mate.session = answer.header("mcp-session-id")
            assert len({mate.session for mate in all_of_them}) == 1, "there are several sessions"
            await asyncio.gather(*(mate.initialized() for mate in all_of_them))
        else:
            await all_of_them[0].initialize()
            await all_of_them[0].initialized()
        yield all_of_them


async def told_step_by_step(mate, server, name):
    """A tool tells of its progress, and each word of it comes before the server says the next one."""
    await mate.send(compact(call(1, "progress", progress_token=name, name=name, steps=2)))
    seen = []
    server.say(name)
    async for message in mate.events():
        seen.append(message)
        if len(seen) == 1:
            # Only now the server may go on.
            server.say(name)
    assert [message.get("method", "result") for message in seen] == ["notifications/progress"] * 2 + ["result"]


async def count(mate, name, calls):
    """Calls with the ids 0, 1, 2, ...: each is answered with its own id and its own words."""
    for number in range(calls):
        words = f"{name} {number}"
        answer = await mate.post(compact(call(number, "overtaken", message=words)))
        [message] = map(json.loads, messages(answer))
        # Compared as text: 1 is neither "1" nor 1.0.
        assert json.dumps(message["id"]) == json.dumps(number), message
        assert message["result"]["content"][0]["text"] == f"Echo: {words}", message
