"""What an answer is worth to the client that asked: right, a failure with a name, or somebody else's."""

import json
import re
from dataclasses import dataclass

RIGHT, CROSSED, WRONG = "right", "crossed", "wrong"
# No answer came, though nothing waits so long.
HUNG = "hung"
# The client has to open a new session.
SESSION_GONE = "4xx session"
# A DELETE of a session that the server has lost: nothing is left to be done.
ALREADY_GONE = "404 to DELETE"
# What may be documented for a disturbance.
FAILURES = (
    "refused",
    "cut",
    "307",
    SESSION_GONE,
    ALREADY_GONE,
    "500 busy",
    "5xx server",
    "502",
    "503 queue",
    "503 upstream",
)
FAILURES += ("503 crash", "504", "nonsense")
# It waited in a filter that crashed: Envoy forgets it there until its client leaves.
FORGOTTEN = "forgotten in a crash"

# Each call's own, and each caller's: wherever these stand in an answer, they have to be the asker's.
TOKEN = re.compile(r"token-[\w-]+")
CALLER = re.compile(r"caller-[\w-]+")


@dataclass(frozen=True)
class Asked:
    """What is demanded of an answer. Without a token nothing ran: an `initialize`, a notification, a DELETE, a GET."""

    caller: str
    number: int | None
    token: str | None = None
    method: str = "tools/call"


@dataclass(frozen=True)
class Verdict:
    kind: str
    # The session in which the server answered, or that it opened.
    session: str | None = None
    # What was seen, if it is not right.
    why: str = ""


def judge(asked, answer):
    """`answer` as http1 reads it; None if the connection ended first."""
    if answer is None:
        return Verdict("cut")
    status = int(answer.first_line.split(" ")[1])
    text = answer.body.decode("utf-8", "replace")
    session = answer.header("mcp-session-id")
    if strangers := [*strangers_in(text, asked), *strangers_in(session or "", asked)]:
        return Verdict(CROSSED, session, f"{asked} got {strangers}")
    # The filter says so itself where a session is shared.
    no_stream = status == 405 and asked.method == "GET"
    if status in (200, 202) or no_stream:
        return judge_good(asked, answer, status, text, session)
    kind = failure(status, text, answer)
    if kind == SESSION_GONE and status == 404 and asked.method == "DELETE":
        kind = ALREADY_GONE
    return Verdict(kind or WRONG, None, f"{asked} got {status} {text[:200]}")


def strangers_in(text, asked):
    """What is another's in this text. An answer that was cut may end amid what is the asker's."""
    for pattern, own in ((TOKEN, asked.token), (CALLER, asked.caller)):
        for found in pattern.finditer(text):
            cut_short = found.end() == len(text) and (own or "").startswith(found[0])
            if found[0] != own and not cut_short:
                yield found[0]


def judge_good(asked, answer, status, text, session):
    if asked.number is None:
        return Verdict(RIGHT, session)
    seen = Verdict(WRONG, session, f"{asked} got {status} {text[:300]}")
    message = message_in(answer, text)
    if message is None:
        # All that a server in such a mood says of itself, and what is left of an answer that was cut short.
        return Verdict("nonsense" if "nonsense" in text else "cut", None, seen.why)
    if not isinstance(message, dict) or json.dumps(message.get("id")) != json.dumps(asked.number):
        return seen
    result = message.get("result")
    if not isinstance(result, dict):
        return seen
    if asked.method == "initialize":
        return Verdict(RIGHT, session) if result.get("serverInfo") and session else seen
    if result.get("token") != asked.token or result.get("runs") != 1:
        return seen
    if not result.get("owner") == result.get("caller") == asked.caller:
        return seen
    return Verdict(RIGHT, result["session"])


def message_in(answer, text):
    """The JSON-RPC message, from plain JSON or from an event stream; None if there is none."""
    if "text/event-stream" in (answer.header("content-type") or ""):
        text = "\n".join(line[5:] for line in text.splitlines() if line.startswith("data:"))
    try:
        return json.loads(text)
    except ValueError:
        return None


def failure(status, text, answer):
    """The name of a failure; None for one that is never documented."""
    if status == 503:
        if answer.header("retry-after"):
            return "503 queue"
        return "503 upstream" if text.startswith(("upstream", "no healthy")) else "503 crash"
    if status in (400, 404) and ("unknown session" in text or "no session id" in text):
        return SESSION_GONE
    if status == 500:
        # The filter may end a request so as well, when it crashed.
        return "500 busy" if "busy" in text else "5xx server" if text else "503 crash"
    return {307: "307", 502: "502", 504: "504"}.get(status)
