"""`make chaos` sees what it is there to see, and the module that it crashes is not the one that is shipped."""

import itertools
import json
import random
import re
import sys
from pathlib import Path

import pytest
from http1 import Message
from processes import ROOT
from real_envoy import MODULE, EnvoyConfig, RealEnvoy
from silent_client import SilentClient

sys.path.append(str(Path(__file__).resolve().parents[1] / "chaos"))
from clients import Client  # noqa: E402
from disturbances import KINDS, Deck  # noqa: E402
from ledger import Disturbance, Ledger  # noqa: E402
from modes import MODES  # noqa: E402
from verdict import (  # noqa: E402
    ALREADY_GONE,
    CROSSED,
    FAILURES,
    FORGOTTEN,
    HUNG,
    RIGHT,
    SESSION_GONE,
    WRONG,
    Asked,
    Verdict,
    judge,
)

ASKED = Asked("caller-x-a", 7, "token-1-silent")
RESULT = {"session": "x.1.1.caller-x-a", "owner": "caller-x-a", "caller": "caller-x-a", "token": "token-1-silent"}


def answer(result=None, number=7, status=200, body=None, headers=()):
    message = {"jsonrpc": "2.0", "id": number, "result": {**RESULT, "runs": 1, **(result or {})}}
    body = json.dumps(message).encode() if body is None else body
    return Message(f"HTTP/1.1 {status} x", [("content-type", "application/json"), *headers], body)


def test_an_answer_to_the_request_itself_is_right():
    assert judge(ASKED, answer()) == Verdict(RIGHT, RESULT["session"])


def test_an_event_with_that_answer_is_right():
    body = b"event: message\ndata: " + answer().body + b"\n\n"
    assert judge(ASKED, Message("HTTP/1.1 200 OK", [("content-type", "text/event-stream")], body)).kind == RIGHT


@pytest.mark.parametrize(
    "other",
    [
        {"token": "token-2-silent"},
        {"token": "token-1-silent-2"},
        {"caller": "caller-x-b"},
        {"owner": "caller-x-b"},
        {"session": "x.1.1.caller-x-b"},
    ],
)
def test_whatever_is_anothers_in_an_answer_is_seen(other):
    assert judge(ASKED, answer(other)).kind == CROSSED


@pytest.mark.parametrize("status", [202, 307, 400, 404, 500, 502, 503, 504])
def test_what_is_anothers_is_seen_in_failures_as_well(status):
    assert judge(ASKED, answer(status=status, body=b"for token-2-silent")).kind == CROSSED


def test_a_session_of_another_caller_is_seen_in_the_header_of_an_initialize():
    asked = Asked("caller-x-a", 7, method="initialize")
    opened = answer({"serverInfo": {"name": "opened for caller-x-a"}, "token": None})
    headers = [*opened.headers, ("mcp-session-id", "x.1.2.caller-x-b")]
    assert judge(asked, Message(opened.first_line, headers, opened.body)).kind == CROSSED


@pytest.mark.parametrize("number", [8, "7", 7.0, None])
def test_an_answer_with_another_id_is_wrong(number):
    assert judge(ASKED, answer(number=number)).kind == WRONG


def test_a_call_that_ran_twice_is_wrong():
    assert judge(ASKED, answer({"runs": 2})).kind == WRONG


def test_an_answer_that_says_nothing_is_wrong():
    assert judge(ASKED, answer(body=b"{}")).kind == WRONG
    assert judge(ASKED, answer(body=b"[]")).kind == WRONG


def test_an_answer_that_was_cut_amid_the_askers_own_name_is_no_others():
    body = answer().body
    assert judge(ASKED, answer(body=body[: body.index(b"caller-x-a") + 7])).kind == "cut"
    assert judge(ASKED, answer(body=b'{"token": "token-1-o')).kind == CROSSED


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"error": {"message": "unknown session"}}', SESSION_GONE),
        (404, b"not here", WRONG),
        (400, b'{"error": {"message": "two requests with one id"}}', WRONG),
        (503, b"upstream connect error", "503 upstream"),
        (503, b"", "503 crash"),
        (500, b"busy", "500 busy"),
        (418, b"", WRONG),
    ],
)
def test_a_failure_has_the_name_of_its_cause(status, body, kind):
    assert judge(ASKED, answer(status=status, body=body)).kind == kind


def test_a_delete_in_a_lost_session_has_a_name_of_its_own():
    lost = answer(status=404, body=b'{"error": {"message": "unknown session"}}')
    assert judge(Asked("caller-x-a", None, method="DELETE"), lost).kind == ALREADY_GONE
    assert judge(Asked("caller-x-a", None, method="GET"), lost).kind == SESSION_GONE


def ledger_with(excuses, began=10.0, ended=12.0, tail=1.0, forgets=False):
    ledger = Ledger()
    ledger.begin(Disturbance("stir", frozenset({"x"}), frozenset(excuses), tail, forgets, began, ended))
    return ledger


@pytest.mark.parametrize(
    ("listener", "sent", "done", "kind"),
    [
        ("x", 10.5, 11.0, "cut"),
        ("x", 9.0, 10.5, "cut"),
        ("x", 12.9, 14.0, "cut"),
        ("x", 9.0, 9.9, WRONG),
        ("x", 13.1, 14.0, WRONG),
        ("other", 10.5, 11.0, WRONG),
    ],
)
def test_a_failure_is_documented_only_amid_its_disturbance(listener, sent, done, kind):
    ledger = ledger_with({"cut"})
    assert ledger.note(listener, sent, done, Verdict("cut")) == kind
    assert bool(ledger.complaints) == (kind == WRONG)


def test_a_failure_that_a_disturbance_does_not_document_is_wrong():
    ledger = ledger_with({"cut"})
    assert ledger.note("x", 11, 11, Verdict("504")) == WRONG


@pytest.mark.parametrize("kind", [CROSSED, WRONG, "lost", HUNG])
def test_what_is_worse_than_a_failure_has_no_excuse(kind):
    ledger = ledger_with(FAILURES, forgets=kind != HUNG)
    assert ledger.note("x", 11, 11, Verdict(kind)) == kind
    assert len(ledger.complaints) == 1


def test_only_what_was_under_way_in_a_crash_may_be_forgotten_in_it():
    ledger = ledger_with((), forgets=True)
    assert ledger.note("x", 11, 40, Verdict(HUNG)) == FORGOTTEN
    assert ledger.note("x", 12.5, 40, Verdict(HUNG)) == HUNG
    # Envoy may have ended it, which takes as long as its drain time.
    assert ledger.note("x", 11, 25, Verdict("cut")) == FORGOTTEN
    assert ledger.note("x", 12.5, 25, Verdict("cut")) == WRONG
    assert ledger.note("x", 11, 12, Verdict("cut")) == WRONG


def test_a_crash_cuts_nothing_that_came_after_it():
    ledger = ledger_with({"cut"}, forgets=True)
    assert ledger.note("x", 11, 12.5, Verdict("cut")) == "cut"
    assert ledger.note("x", 12.5, 12.9, Verdict("cut")) == WRONG


class FakeScene:
    delays = (0,)

    def port(self, listener):
        return 0


def test_a_client_that_finds_itself_in_another_session_of_the_same_life_has_lost_its_own():
    client = Client(FakeScene(), "x", "caller-x-a", "silent", False, True, 0)
    seen = ["x.1.1.caller-x-a", "x.1.1.caller-x-a", "x.2.1.caller-x-a", "x.2.2.caller-x-a"]
    kinds = [client._same_session(ASKED, Verdict(RIGHT, session)).kind for session in seen]
    assert kinds == [RIGHT, RIGHT, RIGHT, "lost"]


def test_the_dice_alone_choose_the_disturbances_and_leave_none_out():
    def drawn(seed):
        deck = Deck(random.Random(seed))
        return [(kind.name, name) for kind, name in (deck.draw() for _ in range(20 * len(KINDS)))]

    assert drawn(5) == drawn(5) != drawn(6)
    names = [name for name, _ in drawn(5)]
    assert set(names[: len(KINDS)]) == {kind.name for kind in KINDS}
    assert all(one != other for one, other in zip(names, names[1:]))
    assert {name for _, name in drawn(5)} == set(MODES)


def test_every_excuse_is_a_failure_that_has_a_name():
    assert set(itertools.chain(*(kind.excuses for kind in KINDS))) <= set(FAILURES)


def test_the_shipped_module_does_not_crash_on_demand(fake_server):
    header = re.search(r'"(x-[a-z-]+)"', (ROOT / "src/trap.rs").read_text())[1]
    assert header.encode() not in MODULE.read_bytes()
    with RealEnvoy(EnvoyConfig(fake_server.port)) as envoy:
        for place in ("request", "answer", "call"):
            client = SilentClient(envoy.port, [(header, place), ("x-api-key", f"trap-{place}")])
            session = client.initialize().session
            assert client.list_tools().result["session"] == session
