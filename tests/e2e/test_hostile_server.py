"""What no honest server answers costs no more than its bound, and reaches the client whose request it was."""

import json

import pytest
from real_envoy import EnvoyConfig, RealEnvoy, ReplicasConfig
from scripted_server import JSON, Answer, FakeMcpServer
from silent_client import SilentClient, request

MIB = 1 << 20
# Envoy keeps no longer answer to a request of the filter's own, and gives the filter none.
ENVOYS_BOUND = 32 * MIB


class HostileServer(FakeMcpServer):
    """Answers what it has a script for, by method, as that says; all else as an honest one."""

    def __init__(self, name="session"):
        self.scripts = {}
        super().__init__(name)

    def _answer(self, request):
        honest = super()._answer(request)
        message = json.loads(request.body) if request.body else {}
        script = self.scripts.get(message.get("method"))
        return script(honest) if script else honest


@pytest.fixture
def server():
    with HostileServer() as running:
        yield running


def envoy_for(server, **settings):
    return RealEnvoy(EnvoyConfig(server.port, {"hold_request_headers": True, **settings}))


def padded(answer, text, size):
    """The answer with a member of about this many bytes, made of this text again and again."""
    start = answer.body.rstrip().removesuffix(b"}")
    filler = b",".join([text] * (size // (len(text) + 1)))
    return Answer(answer.status, answer.headers, start + b', "filler": [' + filler + b"]}")


@pytest.mark.parametrize(
    ("text", "status"), [(b"[]", 200), (b'{"":0}', 200), (b"[]", 500)], ids=["lists", "objects", "a-refusal"]
)
def test_a_huge_answer_to_an_initialize_costs_a_few_times_its_length(server, text, status):
    """What JSON is read into takes many times its bytes, and the memory of a VM never shrinks."""

    def huge(answer):
        answer = padded(answer, text, ENVOYS_BOUND - MIB)
        return answer if status == 200 else Answer(status, [JSON], answer.body)

    server.scripts["initialize"] = huge
    with envoy_for(server, on_reinitialize="reuse") as envoy:
        client = SilentClient(envoy.port)
        before = envoy.memory("VmRSS")
        assert client.initialize().status == status
        assert envoy.memory("VmHWM") - before < 10 * ENVOYS_BOUND


def test_an_answer_beyond_envoys_own_bound_is_none(server):
    server.scripts["initialize"] = lambda answer: padded(answer, b"[]", ENVOYS_BOUND + MIB)
    with envoy_for(server, on_reinitialize="reuse") as envoy:
        client = SilentClient(envoy.port)
        refused = client.initialize()
        assert (refused.status, refused.session) == (504, None)
        server.scripts.clear()
        session = client.initialize().session
        assert client.list_tools().result["session"] == session


@pytest.mark.parametrize("mode", ["forward", "reuse"])
def test_a_server_sends_its_sessions_to_no_other_host(mode):
    """Neither the answer that a client asked for nor the one that the filter asked for names a host by itself."""
    host = "x-mcp-upstream-host"
    with HostileServer("a") as one, HostileServer("b") as other:
        for server, victim in ((one, other), (other, one)):
            named = (host, f"127.0.0.1:{victim.port}")
            server.scripts["initialize"] = lambda answer, named=named: Answer(
                answer.status, [named, *answer.headers], answer.body
            )
        settings = {"hold_request_headers": True, "upstream_host_header": host, "on_reinitialize": mode}
        with RealEnvoy(ReplicasConfig([one.port, other.port, other.port], settings)) as envoy:
            for number in range(6):
                client = SilentClient(envoy.port, [("x-api-key", f"{number}")])
                opened = client.initialize()
                assert opened.header(host) is None
                assert client.list_tools().result["session"] == opened.session
            assert envoy.counter("recovered") == 0
