"""What is measured: each kind of request beside what else does the job, and how its cost grows."""

from dataclasses import replace

import envoys
import ext_proc
from envoys import HOLDS, LEAVES_IDS, session_filter
from load import Request
from names import ALONE, CONTROL, EMPTY, EXT_PROC, FLOOR, LEFT_ALONE, LUA, NATIVE, TRANSLATED
from processes import ROOT
from sessions import open_sessions, session_of
from upstream import EVENTS, message
from ways import WARM_UP, Way

BODIES = ROOT / "target/bench/bodies"
SMALL = 200
SIZES = (SMALL, 10_000, 100_000, 1_000_000, 16_000_000)
CROWDS = (1, 1000, 100_000)
# Of so many callers some had to make room for others.
STILL_KNOWN = 0.85
WORKERS = (1, 2)
SILENT, ECHOING = "silent", "echoing"


def call(size):
    """A file with a `tools/call` of this size, its members in the order in which the official clients write them."""
    around = len(call_for(""))
    BODIES.mkdir(parents=True, exist_ok=True)
    path = BODIES / f"{size}.json"
    path.write_text(call_for("x" * (size - around)))
    return str(path)


def call_for(query):
    params = message(name="search", arguments={"query": query}).replace('"jsonrpc":"2.0",', "")
    return f'{{"method":"tools/call","params":{params},"jsonrpc":"2.0","id":1}}'


def of(caller, *headers, **fields):
    """A request of this caller."""
    return Request(headers=(("authorization", f"Bearer {caller}"), *headers), **fields)


def own_id(caller):
    return ("mcp-session-id", session_of(caller))


def kinds(start, run):
    """Each kind of request, and what else there is."""
    plain, again, empty, floor = start(), start(), start(envoys.EMPTY), start(envoys.FLOOR)
    left_alone, translating = start(session_filter(LEAVES_IDS)), start(session_filter(HOLDS))
    lua, native = start(envoys.LUA), start(envoys.NATIVE)
    service, cluster = run(ext_proc.service())
    asking = start(ext_proc.FILTER, clusters=[cluster])
    for envoy in (left_alone, translating, lua, asking):
        open_sessions(envoy.port, [SILENT, ECHOING])
    silent = of(SILENT, body=call(SMALL))
    get = of(ECHOING, own_id(ECHOING), method="GET")
    echoing = replace(get, method="POST", body=call(SMALL))
    sharing = of(SILENT, own_id(SILENT), body=call(SMALL))
    sessionless = of(SILENT, ("mcp-protocol-version", "2026-07-28"), body=call(SMALL))
    beside = {"alone": ALONE, "empty": EMPTY}
    beside_get = {"alone": f"{ALONE}, GET", "empty": f"{EMPTY}, GET"}
    return [
        Way(ALONE, plain, silent),
        Way(CONTROL, again, silent, alone=ALONE),
        Way(f"{ALONE}, GET", plain, get),
        Way(EMPTY, empty, silent, alone=ALONE),
        Way(f"{EMPTY}, GET", empty, get, alone=f"{ALONE}, GET"),
        Way("a path that is not ours", left_alone, replace(silent, path="/other"), **beside),
        Way("without sessions", left_alone, sessionless, "passed_sessionless", **beside),
        Way("own id, GET", left_alone, get, "passed_own_id", session=session_of(ECHOING), **beside_get),
        Way("own id", left_alone, echoing, "passed_own_id", session=session_of(ECHOING), **beside),
        Way(LEFT_ALONE, left_alone, silent, "repaired", session=session_of(SILENT), **beside),
        # From the first of these on the session is a shared one: the way after it needs that.
        Way(TRANSLATED, translating, silent, "repaired", session=session_of(SILENT), **beside),
        Way("own id, ids translated", translating, sharing, "passed_own_id", session=session_of(SILENT), **beside),
        Way(FLOOR, floor, silent, session=session_of(SILENT), **beside),
        Way(LUA, lua, silent, session=session_of(SILENT), **beside),
        Way(NATIVE, native, silent, **beside),
        Way(EXT_PROC, asking, silent, session=session_of(SILENT), service=service, **beside),
    ]


def point(x, lines, **options):
    """A way for each line of a plot: the first is what the others are compared with."""
    first = f"{next(iter(lines))}, {x}"
    return [
        Way(f"{line}, {x}", envoy, request, outcome, alone=None if number == 0 else first, line=line, x=x, **options)
        for number, (line, (envoy, request, outcome)) in enumerate(lines.items())
    ]


def both_filters(start, **options):
    """The session filter, leaving ids alone and translating them, where it knows a session."""
    filters = [start(session_filter(settings), **options) for settings in (LEAVES_IDS, HOLDS)]
    for envoy in filters:
        open_sessions(envoy.port, [SILENT])
    return filters


def bodies(start):
    """How the cost grows with the size of a request's body."""
    plain, (left_alone, translating) = start(), both_filters(start)
    ways = []
    for size in SIZES:
        request = of(SILENT, body=call(size))
        lines = {
            ALONE: (plain, request, None),
            LEFT_ALONE: (left_alone, request, "repaired"),
            TRANSLATED: (translating, request, "repaired"),
        }
        ways += point(size, lines, warm_up=max(5, min(WARM_UP, 20_000_000 // size)))
    return ways


def crowds(start):
    """How the cost grows with the number of callers, each with a session."""
    plain = start(envoys.CREDENTIAL)
    ways = []
    for count in CROWDS:
        crowded = start(envoys.CREDENTIAL, session_filter(envoys.CROWDED))
        open_sessions(crowded.port, [f"{caller:06}" for caller in range(count)], lambda name: f"/mcp?caller={name}")
        digits = len(str(count - 1)) if count > 1 else 0
        query = f"caller=0{{{6 - digits}}}" + (f"[0-9]{{{digits}}}" if digits else "")
        request = Request(query=query, body=call(SMALL))
        ways += point(
            count, {ALONE: (plain, request, None), LEFT_ALONE: (crowded, request, "repaired")}, least=STILL_KNOWN
        )
    return ways


def workers(start):
    """What another worker brings."""
    request = of(SILENT, body=call(SMALL))
    ways = []
    for count in WORKERS:
        # A second worker is nothing on a single core.
        options = {"workers": count, "apart": False}
        left_alone, translating = both_filters(start, **options)
        lines = {
            ALONE: (start(**options), request, None),
            EMPTY: (start(envoys.EMPTY, **options), request, None),
            LEFT_ALONE: (left_alone, request, "repaired"),
            TRANSLATED: (translating, request, "repaired"),
        }
        ways += point(count, lines)
    return ways


def events(start):
    """How the cost grows with the events of an answer's stream."""
    plain, empty = start(), start(envoys.EMPTY)
    left_alone, translating = both_filters(start)
    ways = []
    for count in EVENTS:
        request = of(SILENT, path=f"/mcp?events={count}", body=call(SMALL))
        lines = {
            ALONE: (plain, request, None),
            EMPTY: (empty, request, None),
            LEFT_ALONE: (left_alone, request, "repaired"),
            TRANSLATED: (translating, request, "repaired"),
        }
        ways += point(count, lines, warm_up=max(20, min(WARM_UP, 100_000 // count)))
    return ways


SWEEPS = {"body": bodies, "callers": crowds, "workers": workers, "events": events}
