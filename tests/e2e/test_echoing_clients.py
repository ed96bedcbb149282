"""Clients that send their session id see and cause the same bytes with the filter as without it."""

import re

import mcp_servers
import pytest
from processes import NODE_MODULES, Process
from real_envoy import EnvoyConfig, RealEnvoy
from recorder import Recorder

HANDSHAKE_CLIENTS = {
    "python-2": [mcp_servers.python_with("mcp-2"), mcp_servers.HERE / "python_client.py"],
    "python-1": [mcp_servers.python_with("mcp-1"), mcp_servers.HERE / "python_client.py"],
    "typescript": ["node", mcp_servers.HERE / "typescript_client.cjs"],
}

# What differs from run to run, whoever is in the way.
VARYING = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"127\.0\.0\.1:\d+", "<address>"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<date>"),
    (r"(x-envoy-upstream-service-time): \d+", r"\1: <time>"),
    (r"\b[0-9a-f]{16}\b", "<span>"),
]


def run_session(command, server_port, with_filter, has_stream=True):
    """What went over the wire before and behind Envoy, and what its access log says of each request."""
    with Recorder(server_port) as behind:
        config = EnvoyConfig(behind.port)
        with RealEnvoy(config if with_filter else config.without_filter()) as envoy, Recorder(envoy.port) as before:
            url = f"http://127.0.0.1:{before.port}/mcp"
            program, script, *arguments = command
            with Process(program, script, url, *arguments, env={"NODE_PATH": str(NODE_MODULES)}) as client:
                client.out.wait_for("^used$")
                if has_stream:
                    before.wait_for_answer(b"GET /mcp")
                client.say("go on")
                assert client.wait(30) == 0, client.err.lines
            sides = before.exchanges(), behind.exchanges()
            bodies = [sorted((request.body, answer.body) for request, answer in side) for side in sides]
            assert bodies[0] == bodies[1]
            ids = [answer.header("x-request-id") for _, answer in sides[0]]
            log = [envoy.process.out.wait_for(rf"request={name} mcp_session=(\S+)")[1] for name in ids]
            return [masked(side) for side in sides], log


def masked(exchanges):
    """The exchanges as text, in an order that does not depend on which connection was the first."""
    return sorted(f"{render(request)}\n-----\n{render(answer, request.method)}" for request, answer in exchanges)


def render(message, answers_to=None):
    # What a server says on its event stream of its own accord depends on when the stream opened.
    body = "<stream>" if answers_to == "GET" else message.body.decode()
    text = "\n".join([message.first_line, *(f"{name}: {value}" for name, value in message.headers), "", body])
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text


@pytest.mark.parametrize("client", HANDSHAKE_CLIENTS)
def test_an_echoing_client_is_served_as_without_the_filter(real_server, client):
    command = HANDSHAKE_CLIENTS[client]
    plain, nothing = run_session(command, real_server.port, with_filter=False)
    filtered, outcomes = run_session(command, real_server.port, with_filter=True)
    assert filtered == plain
    assert set(nothing) == {"-"}
    assert outcomes.count("learned") == 1
    assert set(outcomes) <= {"learned", "passed_own_id", "ended"}


def test_a_client_of_the_sessionless_era_is_left_alone():
    command = [mcp_servers.python_with("mcp-2"), mcp_servers.HERE / "python_client.py", "auto"]
    with mcp_servers.start("python-sse") as server:
        plain, _ = run_session(command, server.port, with_filter=False, has_stream=False)
        filtered, outcomes = run_session(command, server.port, with_filter=True, has_stream=False)
    assert filtered == plain
    assert set(outcomes) == {"passed_sessionless"}
