"""Many callers at once, who all choose the same ids, on two workers with hardly a slot for them: nothing crosses."""

import asyncio
import collections
import json
import random

import pytest
from callers_ledger import Ledger
from real_envoy import EnvoyConfig, RealEnvoy
from session_mates import Mate, compact, encode, messages
from silent_client import INITIALIZE

CALLERS = 32
AUTHORITIES = ("a.test", "b.test")
# Of each caller at each authority.
CLIENTS = 2
ROUNDS, LONG_ROUNDS = 2, 200
# Where clients take turns at one session there are fewer, and few leave without a DELETE: then all wait for a lease.
QUEUING = 32
# They look alike, and all use the same ones.
IDS = (1, 2, 3, "1", "2", 1.0)

MODES = {
    "forward": {},
    "forward-held": {"hold_request_headers": True, "on_missing_session": "initialize"},
    "reuse": {"on_reinitialize": "reuse", "hold_request_headers": True},
    "queue": {"on_reinitialize": "queue", "hold_request_headers": True},
}
# All callers meet in two slots, and are forgotten at once; or they meet, and find each other's sessions lost.
MEMORY = {
    "2-slots": {"slots": 2, "per_caller": 1, "bulk_slots": 1},
    "48-slots": {"slots": 48, "per_caller": 2, "bulk_slots": 48},
}
SESSION = {"lease": "1s", "queue_timeout": "8s"}


class Request(Mate):
    """One request on a connection of its own, which any of the workers may get."""

    def __init__(self, client, session):
        super().__init__(client.port, client.key, session)
        self.authority = client.authority

    def headers(self):
        return [(name, self.authority if name == "host" else value) for name, value in super().headers()]

    async def ask(self, message, method="POST"):
        # An initialize names neither session nor version.
        names = message is not None and message["method"] == "initialize"
        headers = [pair for pair in self.headers() if not (names and pair[0].startswith("mcp-"))]
        self.writer.write(encode(headers, compact(message) if message else b"", method=method))
        return await self.receive()


class Client:
    """Opens sessions, asks, and ends them, and looks at each answer."""

    def __init__(self, port, number, seen, ends):
        self.port = port
        # How often it ends its session.
        self.ends = ends
        self.key = f"key-{number % CALLERS}"
        self.authority = AUTHORITIES[number // CALLERS % len(AUTHORITIES)]
        self.dice = random.Random(number)
        self.seen = seen
        self.session = None

    async def live(self, rounds):
        for turn in range(rounds):
            await self.open()
            for number in range(3):
                await self.call(f"{self.key} {self.authority} {id(self)} {turn} {number}")
            if self.dice.random() < self.ends:
                await self.ask(None, "DELETE", session=self.session)

    async def ask(self, message, method="POST", session=None):
        async with Request(self, session) as request:
            return await request.ask(message, method)

    async def open(self):
        params = {**INITIALIZE, "clientInfo": {"name": self.key, "version": "1"}}
        message = {"method": "initialize", "params": params, "jsonrpc": "2.0", "id": self.dice.choice(IDS)}
        answer = await self.ask(message)
        result = self.read(answer, message)
        if result is not None:
            self.session = answer.header("mcp-session-id")
            self.note(self.session == result["serverInfo"]["name"], answer)

    async def call(self, words):
        params = {"name": "whoami", "words": words}
        message = {"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": self.dice.choice(IDS)}
        # Some rely on the filter to name the session.
        session = self.session if self.dice.random() < 0.5 else None
        result = self.read(await self.ask(message, session=session), message)
        if result is not None:
            expected = {"caller": self.key, "authority": self.authority, "words": words}
            self.note({**result, **expected} == result, result)

    def read(self, answer, message):
        """What the answer says; None if it is a refusal. Its id is that of the request."""
        status = answer.first_line.split(" ")[1]
        self.seen.statuses[status] += 1
        told = [json.loads(text) for text in messages(answer)]
        if status != "200":
            assert status in ("400", "404", "503", "504"), answer
            return None
        [told] = told
        # As text: 1 is neither "1" nor 1.0.
        self.note(json.dumps(told["id"]) == json.dumps(message["id"]), told)
        return told["result"]

    def note(self, is_own, what):
        self.seen.checked += 1
        if not is_own:
            self.seen.crossed.append(what)


class Seen:
    def __init__(self):
        self.checked = 0
        self.crossed = []
        self.statuses = collections.Counter()


async def live(port, seen, rounds, takes_turns):
    count, ends = (QUEUING, 0.95) if takes_turns else (CALLERS * len(AUTHORITIES) * CLIENTS, 0.3)
    clients = [Client(port, number, seen, ends) for number in range(count)]
    await asyncio.gather(*(client.live(rounds) for client in clients))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "rounds", [pytest.param(ROUNDS, id="short"), pytest.param(LONG_ROUNDS, id="long", marks=pytest.mark.long)]
)
def test_no_answer_and_no_session_reaches_another_caller(capsys, mode, memory, rounds):
    seen = Seen()
    settings = {**MODES[mode], "memory": MEMORY[memory], "session": SESSION}
    with Ledger() as server, RealEnvoy(EnvoyConfig(server.port, settings)) as envoy:
        asyncio.run(live(envoy.port, seen, rounds, mode == "queue"))
        names = ("evicted", "repaired", "recovered", "reused", "opened")
        counters = {name: envoy.counter(name) for name in names}
        crossed = seen.crossed + server.crossed
        with capsys.disabled():
            print(
                f"\n    {mode}, {memory}: {seen.checked} answers and ids and {server.looked_at} requests checked,"
                f" {len(crossed)} crossed; {dict(seen.statuses)}, {counters}"
            )
        assert crossed == []
        assert seen.statuses["200"] > QUEUING
        assert counters["repaired"] > 0
