"""The scenarios of tests/scenarios in the real Envoy, with a scripted server behind it."""

import contextlib
import itertools
import json

import pytest
from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import Answer, ScriptedServer
from silent_client import SilentClient


FOLDER = ROOT / "tests/scenarios"
PARTS = json.loads((FOLDER / "parts.json").read_text())


def spell_out(value):
    """`"@name"` stands for a part of parts.json, repeat and join for long texts."""
    match value:
        case str() if value.startswith("@"):
            return spell_out(PARTS[value[1:]])
        case list():
            return [spell_out(item) for item in value]
        case {"repeat": text, "times": times}:
            return text * times
        case {"join": texts}:
            return "".join(spell_out(texts))
        case dict():
            return {key: spell_out(item) for key, item in value.items()}
        case _:
            return value


def for_envoy():
    """Those that run at this level; the ones of one configuration follow each other, so that they share an Envoy."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        if path.stem == "parts":
            continue
        for scenario in spell_out(json.loads(path.read_text())):
            if "envoy" in scenario.get("levels", ["envoy"]):
                settings = scenario.get("config", {})
                found.append(pytest.param(settings, scenario["steps"], id=f"{path.stem}: {scenario['name']}"))
    assert found, "no scenario at all"
    return sorted(found, key=lambda param: json.dumps(param.values[0], sort_keys=True))


@pytest.fixture(scope="module")
def server():
    with ScriptedServer(answer=None) as running:
        yield running


class Envoys:
    """One Envoy at a time, kept for as long as the same settings are asked for."""

    def __init__(self, server):
        self._server = server
        self._settings = None
        self._running = contextlib.ExitStack()

    def with_settings(self, settings):
        if settings != self._settings:
            self.close()
            self._envoy = self._running.enter_context(RealEnvoy(EnvoyConfig(self._server.port, settings)))
            self._settings = settings
        return self._envoy

    def close(self):
        self._settings = None
        self._running.close()


@pytest.fixture(scope="module")
def envoys(server):
    with contextlib.closing(Envoys(server)) as running:
        yield running


numbers = itertools.count()


@pytest.mark.parametrize(("settings", "steps"), for_envoy())
def test_scenario(envoys, server, settings, steps):
    envoy = envoys.with_settings(settings)
    # Another authority is another endpoint: scenarios share an Envoy, and no session.
    prefix = f"s{next(numbers)}."
    for number, step in enumerate(steps):
        try:
            run_step(envoy, server, prefix, step)
        except AssertionError as failure:
            raise AssertionError(f"step {number}: {json.dumps(step)[:500]}\n{failure}") from None
    envoy.assert_filter_lives()


def run_step(envoy, server, prefix, step):
    request, expected_pings = step["request"], step.get("pings", [])
    script = iter([step["answer"], *expected_pings])
    before = len(server.requests)

    def scripted(message):
        spec = next(script, None)
        # Too many pings: they get an answer all the same, and are counted below.
        return encode_answer(spec) if spec else Answer(500)

    server.answer = scripted
    authority = prefix + request.get("authority", "mcp.test")
    client = SilentClient(envoy.port, source=request.get("from", "127.0.0.1"), authority=authority)
    reply = send(envoy, client, request)

    given = step["answer"]
    assert reply.status == given["status"]
    ids = [value for name, value in reply.headers if name.lower() == "mcp-session-id"]
    assert ids == [value for name, value in given.get("headers", []) if name == "mcp-session-id"]
    if request["method"] != "HEAD":
        assert reply.body == (body_of(given) or b"")
    assert envoy.outcome(reply) == step["outcome"]

    arrived, *pings = server.requests[before:]
    assert arrived.method == request["method"]
    assert arrived.path == request["path"]
    assert arrived.body == (body_of(request) or b"")
    for name, expected in step.get("upstream", {}).items():
        lines = expected if isinstance(expected, list) else [] if expected is None else [expected]
        assert arrived.all(name) == lines, f"{name}: the server saw {arrived.all(name)}"

    assert len(pings) == len(expected_pings)
    for ping in pings:
        assert (ping.method, ping.path) == ("POST", request["path"])
        assert json.loads(ping.body)["method"] == "ping"
        assert ping.header("host") == authority
        for name in ("authorization", "x-api-key"):
            assert ping.all(name) == arrived.all(name)


def body_of(spec):
    if "json" in spec:
        return json.dumps(spec["json"]).encode()
    return spec["body"].encode() if "body" in spec else None


def headers_of(request):
    headers = [(name, value.encode("latin-1")) for name, value in request.get("headers", [])]
    names = [name for name, _ in headers]
    if request["method"] == "POST" and body_of(request) is not None and "content-type" not in names:
        headers.append(("content-type", b"application/json"))
    return headers


def send(envoy, client, request):
    body, headers = body_of(request), headers_of(request)
    if "cut" not in request:
        return client.request(request["method"], request["path"], headers, body)
    head = client.send(request["method"], request["path"], [*headers, ("content-length", str(len(body)))])
    size = request["cut"]
    envoy.send_in_pieces(head.sock, [body[at : at + size] for at in range(0, len(body), size)])
    return client.receive(head)


def encode_answer(spec):
    headers = [(name, value) for name, value in spec.get("headers", [])]
    return Answer(spec["status"], headers, body_of(spec) or b"")
