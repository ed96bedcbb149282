"""Clients of every kind, each of which judges all that it gets."""

import asyncio
import contextlib
import itertools
import random
import time

from http1 import read_message
from ledger import LOST
from session_mates import compact, encode
from silent_client import INITIALIZE
from verdict import HUNG, RIGHT, SESSION_GONE, Asked, Verdict, judge

# No request may take this long: a turn in line (10 s), what then goes wrong twice (3 s each), and two pings (2 s each).
PATIENCE = 25
tokens = itertools.count()


# An older connection is not used again: so none is in use when its listener has been replaced and the drain time ends.
AGE = 2


class Wire:
    """A connection that is opened anew when it has ended."""

    def __init__(self, port):
        self.port = port
        self._reader = self._writer = None
        self._opened = 0.0

    async def exchange(self, data):
        """The answer; None if the connection ended before one had come whole."""
        if self._writer and (self._reader.at_eof() or time.monotonic() - self._opened > AGE):
            self.close()
        if not self._writer:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
            self._opened = time.monotonic()
        answer = None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self._writer.write(data)
            await self._writer.drain()
            answer = await read_message(self._reader, is_answer=True)
        if answer is None or "close" in (answer.header("connection") or ""):
            self.close()
        return answer

    async def leave(self, data, after):
        """Sends a request, and goes without its answer."""
        with contextlib.suppress(ConnectionError, OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(data)
            await asyncio.sleep(after)
            writer.close()

    def close(self):
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None


# So much longer does a client think that comes seldom: it meets a server that was killed long after that.
SELDOM = 20


class Client:
    """One client of a caller. `echoes` says whether it sends its session id; `alone`, whether no other client of its
    caller opens sessions, so that nobody but the server can end its session."""

    def __init__(self, scene, listener, caller, name, echoes, alone, seed):
        self.seldom = name.startswith("seldom")
        self.scene, self.listener, self.caller, self.name = scene, listener, caller, name
        self.echoes, self.alone = echoes, alone
        self.dice = random.Random(seed)
        self.wire = Wire(scene.port(listener))
        self.session = None
        # In which session the last answer came.
        self.seen_in = None
        self._numbers = itertools.count()
        # Lives that went right from beginning to end.
        self.good_lives = 0

    async def run(self):
        """Life after life: an initialize, calls, and for some a DELETE."""
        while not self.scene.over.is_set():
            if await self.live():
                self.good_lives += 1
                self.scene.alive(self)
        self.wire.close()

    async def live(self):
        self.session = self.seen_in = None
        if not await self.initialize():
            # That is what clients do: one that would try at once would be a flood.
            await self.pause()
            return False
        ok = await self.notify("notifications/initialized")
        for _ in range(2 if self.seldom else self.dice.randint(6, 24)):
            await self.pause()
            if self.scene.over.is_set():
                break
            kind = await self.call()
            ok = ok and kind == RIGHT
            if kind == SESSION_GONE:
                return False
            # Where sessions take turns, to listen keeps none.
            if self.listener != "queue" and self.dice.random() < 0.1:
                ok = await self.listen() and ok
        if self.echoes and self.dice.random() < 0.8:
            ok = await self.delete() and ok
        return ok

    async def pause(self):
        # Its think time: the load is as steady as that.
        seconds = self.dice.uniform(0.5, 1.5) * self.scene.think[self.listener] * (SELDOM if self.seldom else 1)
        # At the end nobody waits for it.
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self.scene.over.wait(), seconds)

    async def initialize(self):
        asked = Asked(self.caller, self._number(), method="initialize")
        message = {"method": "initialize", "params": INITIALIZE, "jsonrpc": "2.0", "id": asked.number}
        verdict, kind = await self.ask(asked, message, named=False)
        self.session = verdict.session if kind == RIGHT else None
        return kind == RIGHT

    async def notify(self, method):
        _, kind = await self.ask(Asked(self.caller, None, method=method), {"method": method, "jsonrpc": "2.0"})
        return kind == RIGHT

    async def call(self, trap=None):
        token = f"token-{next(tokens)}-{self.name}"
        asked = Asked(self.caller, self._number(), token)
        delay = self.dice.choice(self.scene.delays)
        arguments = {"token": token, "events": self.dice.random() < 0.5, "delay": delay}
        params = {"name": "work", "arguments": arguments}
        message = {"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": asked.number}
        _, kind = await self.ask(asked, message, extra=[("x-chaos-trap", trap)] if trap else [])
        return kind

    async def listen(self):
        """A stream of events, which this server ends at once."""
        _, kind = await self.ask(Asked(self.caller, None, method="GET"), None, method="GET")
        return kind == RIGHT

    async def delete(self):
        _, kind = await self.ask(Asked(self.caller, None, method="DELETE"), None, method="DELETE")
        return kind == RIGHT

    async def vanish(self, trap=None):
        """A request whose client does not wait for the answer: an initialize, or a call."""
        message = {"method": "initialize", "params": INITIALIZE, "jsonrpc": "2.0", "id": self._number()}
        extra = [("x-chaos-trap", trap)] if trap else []
        if not trap and self.dice.random() < 0.5:
            arguments = {"token": f"token-{next(tokens)}-{self.name}", "events": True, "delay": 0.2}
            params = {"name": "work", "arguments": arguments}
            message = {"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": self._number()}
        data = self._encode(message, message["method"] != "initialize", extra=extra)
        await self.wire.leave(data, 1 if trap else self.dice.uniform(0, 0.15))

    def _number(self):
        # Small ones, so that clients of one session use the same.
        return next(self._numbers)

    def _encode(self, message, named=True, method="POST", extra=()):
        session = [("mcp-session-id", self.session)] if named and self.echoes and self.session else []
        version = [("mcp-protocol-version", INITIALIZE["protocolVersion"])] if named else []
        headers = [
            *[("host", "chaos.test"), ("x-api-key", self.caller), *session, *version, *extra],
            *[("content-type", "application/json"), ("accept", "application/json, text/event-stream")],
        ]
        return encode(headers, compact(message) if message else b"", method=method)

    async def ask(self, asked, message, named=True, method="POST", extra=()):
        """Sends it, and notes what came; a redirected one is sent once more."""
        data = self._encode(message, named, method, extra)
        verdict, kind = await self._ask(asked, data)
        if kind == "307":
            verdict, kind = await self._ask(asked, data)
        return verdict, kind

    async def _ask(self, asked, data):
        sent = time.monotonic()
        try:
            verdict = judge(asked, await asyncio.wait_for(self.wire.exchange(data), PATIENCE))
        except (TimeoutError, asyncio.TimeoutError):
            self.wire.close()
            verdict = Verdict(HUNG, None, str(asked))
        except OSError:
            verdict = Verdict("refused", None, str(asked))
        done = time.monotonic()
        verdict = self._same_session(asked, verdict)
        kind = self.scene.ledger.note(self.listener, sent, done, verdict)
        if kind != RIGHT:
            self.seen_in = None
        if asked.token:
            self.scene.times.append((self.listener, sent, done - sent))
        return verdict, kind

    def _same_session(self, asked, verdict):
        """As long as the server lives, its sessions do: nobody may be in another one."""
        if asked.token is None or verdict.kind != RIGHT:
            return verdict
        before, self.seen_in = self.seen_in, verdict.session
        if self.alone and before and before != verdict.session and life(before) == life(verdict.session):
            return Verdict(LOST, verdict.session, f"{asked} was in {before}, now in {verdict.session}")
        return verdict


def life(session):
    """Which life of its server opened a session (server.py writes that into its id)."""
    return session.split(".")[1]
