"""An MCP server of many callers: it knows for whom each session was opened, and each answer says whose it is."""

import collections
import itertools
import json

from scripted_server import JSON, Answer, ScriptedServer, error, reply


class Ledger(ScriptedServer):
    """Every so often it loses a session. A caller is an API key at an authority."""

    LOSES_EVERY = 40

    def __init__(self):
        self.owners = {}
        self.living = set()
        self.crossed = []
        self.looked_at = 0
        self._names = (f"session-{number}" for number in itertools.count(1))
        super().__init__(self._answer)
        # Minutes of them would be too many to keep.
        self.requests = collections.deque(maxlen=10)

    def _answer(self, request):
        self.looked_at += 1
        message = json.loads(request.body) if request.body else {}
        party = request.header("x-api-key"), request.header("host")
        session = request.header("mcp-session-id")
        # What nobody needs any more the filter ends without credentials: it keeps none.
        ends = request.method == "DELETE" and party[0] is None
        if session and not ends and self.owners.get(session) != party:
            self.crossed.append((party, session, self.owners.get(session)))
        if message.get("method") == "initialize":
            return self._open(party, session, message)
        if session not in self.living:
            return error(404 if session else 400, "no such session")
        if request.method == "DELETE" or self.looked_at % self.LOSES_EVERY == 0:
            self.living.discard(session)
        if request.method == "DELETE":
            return Answer()
        if request.method == "GET":
            return Answer(405)
        if "id" not in message:
            return Answer(202)
        words = message.get("params", {}).get("words")
        return reply(message, {"caller": party[0], "authority": party[1], "session": session, "words": words})

    def _open(self, party, session, message):
        name = message["params"]["clientInfo"]["name"]
        if name not in (party[0], "mcp-session-filter"):
            self.crossed.append((party, "an initialize", name))
        if session:
            return error(400, "there is a session already")
        session = next(self._names)
        self.owners[session] = party
        self.living.add(session)
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": session, "version": "1"}}
        return Answer(200, [JSON, ("mcp-session-id", session)], reply(message, result).body)
