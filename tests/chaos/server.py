"""An MCP server that misbehaves on demand: server.py NAME LIFE PORT one|many

Each answer names the session that it was given in, whose that is, who asked, and what for. Lines on the input say how
it behaves from then on: `be MODE SEED`.
"""

import asyncio
import json
import random
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))
from http1 import read_message  # noqa: E402
from scripted_server import EVENT_STREAM, JSON, Answer, error, reply  # noqa: E402

# A server that holds one session gives up one that nobody used for so long, when somebody asks for another.
IDLE = 3
# A mode spoils this share of the answers.
SHARE = 1 / 3
NONSENSE = [
    b"\x00\xff\x13nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nnonsense\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{nonsense",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 16\r\n\r\ndata: nonsense\n\n",
    b"HTTP/1.1 500 Oops\r\ncontent-length: 8\r\n\r\nnonsense",
]


class Sessions:
    """Whose each session is, and when it was used."""

    def __init__(self, name, life, holds_one):
        self._name, self._life, self._holds_one = name, life, holds_one
        self._owners = {}
        self._used = {}
        self._opened = 0

    def open(self, owner):
        """A new session's id; nothing if it may hold no other."""
        if self._holds_one:
            for session in [one for one, used in self._used.items() if time.monotonic() - used > IDLE]:
                self.end(session)
            if self._owners:
                return None
        self._opened += 1
        session = f"{self._name}.{self._life}.{self._opened}.{owner}"
        self._owners[session] = owner
        self._used[session] = time.monotonic()
        return session

    def use(self, session):
        """Its owner; nothing if there is no such session."""
        if session in self._owners:
            self._used[session] = time.monotonic()
        return self._owners.get(session)

    def end(self, session):
        self._owners.pop(session, None)
        self._used.pop(session, None)


class Server:
    def __init__(self, name, life, holds_one):
        self._sessions = Sessions(name, life, holds_one)
        self._under_way = set()
        self._ran = {}
        self._mode, self._dice = "well", random.Random(0)

    def be(self, mode, seed):
        self._mode, self._dice = mode, random.Random(seed)

    async def serve(self, reader, writer):
        try:
            while request := await read_message(reader):
                mode = self._mode if self._dice.random() < SHARE else "well"
                if mode == "garbage":
                    # Before it does anything: a session that it opened so would be nobody's.
                    writer.write(self._dice.choice(NONSENSE))
                    return
                if mode == "cut" and b'"initialize"' in request.body:
                    return
                if not await self._write(writer, await self._answer(request), mode):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def _write(self, writer, answer, mode):
        """Whether the connection goes on."""
        data = answer.encode()
        if mode == "cut":
            writer.write(data[: self._dice.randrange(len(data))])
            return False
        pieces = [data[at : at + 7] for at in range(0, len(data), 7)] if mode == "slowly" else [data]
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if mode == "slowly":
                # That is how slow it is.
                await asyncio.sleep(0.002)
        return not answer.goes_on

    async def _answer(self, request):
        caller = request.header("x-api-key")
        message = json.loads(request.body) if request.body else {}
        method = message.get("method")
        # The answer crashes the filter, if the request says so.
        trap = request.header("x-chaos-trap")
        traps = [("x-chaos-trap", trap)] if trap else []
        session = request.header("mcp-session-id")
        if method == "initialize":
            return self._initialize(message, caller, traps)
        if not session:
            return error(400, "no session id")
        owner = self._sessions.use(session)
        if owner is None:
            return error(404, "unknown session")
        if request.method == "DELETE":
            self._sessions.end(session)
            return Answer()
        if request.method == "GET":
            return Answer(200, [EVENT_STREAM], f"data: {json.dumps([owner, caller])}\n\n".encode())
        if "id" not in message:
            return Answer(202)
        if method == "ping":
            return reply(message, {})
        return await self._call(message, session, owner, caller, traps)

    def _initialize(self, message, caller, traps):
        session = self._sessions.open(caller)
        if session is None:
            return error(500, "busy")
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {},
            "serverInfo": {"name": f"opened for {caller}", "version": "1"},
        }
        answer = reply(message, result, session)
        return Answer(200, [*answer.headers, *traps], answer.body)

    async def _call(self, message, session, owner, caller, traps):
        place = (session, json.dumps(message["id"]))
        if place in self._under_way:
            return error(400, "two requests with one id")
        wanted = message["params"]["arguments"]
        self._under_way.add(place)
        try:
            # A call that takes as long.
            await asyncio.sleep(wanted["delay"])
        finally:
            self._under_way.discard(place)
        self._sessions.use(session)
        runs = self._ran[wanted["token"]] = self._ran.get(wanted["token"], 0) + 1
        result = {"session": session, "owner": owner, "caller": caller, "token": wanted["token"], "runs": runs}
        answer = reply(message, result)
        if wanted["events"]:
            body = b"event: message\ndata: " + answer.body + b"\n\n"
            return Answer(200, [EVENT_STREAM, *traps], body)
        return Answer(200, [JSON, *traps], answer.body)


async def main(name, life, port, holds):
    server = Server(name, life, holds == "one")
    loop = asyncio.get_running_loop()

    def listen_to_input():
        for line in sys.stdin:
            _, mode, seed = line.split()
            loop.call_soon_threadsafe(server.be, mode, int(seed))

    threading.Thread(target=listen_to_input, daemon=True).start()
    running = await asyncio.start_server(server.serve, "127.0.0.1", int(port))
    print("listening", flush=True)
    await running.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
