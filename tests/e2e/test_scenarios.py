"""The scenarios of tests/scenarios in the real Envoy, with a scripted server behind it."""

import contextlib
import itertools
import json

import pytest
from processes import ROOT
from real_envoy import EnvoyConfig, RealEnvoy
from scripted_server import Answer, ScriptedServer
from silent_client import SilentClient
from tokens import TOKEN, answered, is_token, original_of, request_ids, tokens_in, translated


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
    request = step["request"]
    script = Script(step)
    server.answer = script
    authority = prefix + request.get("authority", "mcp.test")
    client = SilentClient(envoy.port, source=request.get("from", "127.0.0.1"), authority=authority)
    reply = send(envoy, client, request)
    check_client(step, reply)
    assert envoy.outcome(reply) == step["outcome"]
    # What the filter does after its answer has no other end to wait for.
    server.wait_until(lambda: len(script.calls) >= len(script.expected_calls))
    with server.changed:
        own, calls = script.own, list(script.calls)
    check_own(step, own, script.seen)
    check_calls(script.expected_calls, calls, own, request["path"], authority)


def check_client(step, reply):
    """What the client got: the answer as it is, or what the step says."""
    given = step.get("client", step["answer"])
    assert reply.status == given["status"]
    if "client" not in step:
        names = ["mcp-session-id"]
    else:
        names = {name for name, _ in given.get("headers", [])}
    for name in names:
        lines = [value for key, value in reply.headers if key.lower() == name]
        expected = [value for key, value in given.get("headers", []) if key == name and value is not None]
        assert lines == expected, f"{name}: the client got {lines}"
    if step["request"]["method"] == "HEAD":
        return
    if "client" in step and "json" in given:
        assert json.loads(reply.body) == given["json"]
    else:
        assert reply.body == (body_of(given) or b"")


def check_own(step, own, seen):
    """What the server got of the client's own request, and the ids that were translated on the way."""
    request, answer = step["request"], step["answer"]
    if answer is None:
        assert own is None, f"the request reached the server: {own}"
        return
    assert own, "the request did not reach the server"
    assert own.method == request["method"]
    assert own.path == request["path"]
    sent = body_of(request) or b""
    assert translated(sent, own.body) is not None, f"the body at the server is {own.body}, not {sent}"
    assert own.all("content-length") in ([], [str(len(own.body))])
    for name, expected in step.get("upstream", {}).items():
        check_lines(own, name, expected)
    match step.get("ids"):
        case "kept":
            assert not seen, f"ids were translated: {own.body}"
        case "translated":
            assert seen or not request_ids(sent), "no id was translated"
            assert all(is_token(number) for number in request_ids(own.body)), own.body


def check_calls(expected_calls, calls, own, path, authority):
    assert [kind_of(call) for call in calls] == [(spec["method"], spec["rpc"]) for spec in expected_calls]
    for spec, call in zip(expected_calls, calls, strict=True):
        headers = spec.get("headers", {})
        for name, expected in headers.items():
            check_lines(call, name, expected)
        assert call.path == headers.get(":path", path)
        assert call.header("host") == headers.get(":authority", authority)
        if spec["rpc"] == "ping" and own:
            for name in ("authorization", "x-api-key"):
                assert call.all(name) == own.all(name)


def check_lines(message, name, expected):
    if name.startswith(":"):
        return
    lines = expected if isinstance(expected, list) else [] if expected is None else [expected]
    assert message.all(name) == lines, f"{name}: the server saw {message.all(name)}"


class Script:
    """Tells the client's own request from the filter's as they come, and answers both as the step says."""

    def __init__(self, step):
        self._request, self._answer = step["request"], step["answer"]
        pings = [{"rpc": "ping", "answer": answer} for answer in step.get("pings", [])]
        self.expected_calls = [{"method": "POST", **call} for call in step.get("calls", pings)]
        self.own = None
        # The ids that the server saw in the place of the client's.
        self.seen = []
        self.calls = []

    def __call__(self, message):
        if self._is_own(message):
            self.own = message
            self.seen = translated(body_of(self._request) or b"", message.body) or []
            return encode_answer(self._answer, self.seen)
        self.calls.append(message)
        if len(self.calls) > len(self.expected_calls):
            # It gets an answer all the same, and is counted afterwards.
            return Answer(500)
        return encode_answer(self.expected_calls[len(self.calls) - 1]["answer"], tokens_in(message.body))

    def _is_own(self, message):
        """A request that the filter repeats looks like the client's own, which comes first."""
        if self.own or self._answer is None:
            return False
        body = body_of(self._request)
        expected = (self._request["method"], rpc_of(body) if body else None)
        return kind_of(message) == expected


def kind_of(message):
    return message.method, rpc_of(message.body) if message.body else None


def rpc_of(body):
    """The method of a JSON-RPC message; a body that is none stands for itself."""
    try:
        return json.loads(body)["method"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return TOKEN.sub(lambda token: original_of(token[0]), body)


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


def encode_answer(spec, seen):
    headers = [(name, value) for name, value in spec.get("headers", [])]
    return Answer(spec["status"], headers, answered(body_of(spec) or b"", seen))
