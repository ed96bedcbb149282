"""Replicas of a stateful server: a session's requests reach the one that holds it, and it moves when that one is gone."""

import contextlib
import json
import os

import demo_replicas
import mcp_servers
import pytest
from real_envoy import RealEnvoy, ReplicasConfig
from scripted_server import FakeMcpServer
from silent_client import BOTH, SilentClient

HOST = "x-mcp-upstream-host"
CLIENTS = 6
HELD = [pytest.param(True, id="headers-held"), pytest.param(False, id="headers-not-held")]


def settings(held, **more):
    return {"hold_request_headers": held, "upstream_host_header": HOST, **more}


class Replicas:
    """Three of them; each session's id tells which one has opened it."""

    def __init__(self, stack):
        self.servers = [stack.enter_context(FakeMcpServer(name)) for name in ("a", "b", "c")]
        self.ports = [server.port for server in self.servers]

    def holding(self, session):
        return next(server for server in self.servers if session in server.sessions)

    def others(self, server):
        return [other for other in self.servers if other is not server]

    def requests(self):
        return [request for server in self.servers for request in server.requests]


@pytest.fixture
def stack():
    with contextlib.ExitStack() as running:
        yield running


@pytest.fixture
def replicas(stack):
    return Replicas(stack)


def clients_of(envoy, count=CLIENTS, **options):
    return [SilentClient(envoy.port, [("x-api-key", f"client {number}")], **options) for number in range(count)]


@pytest.mark.parametrize("column", ["stateful_session", "this filter"])
def test_the_table_of_the_readme_holds(column):
    found = demo_replicas.observe(column)
    assert all(found.echoing) and found.replicas > 1
    if column == "this filter":
        assert demo_replicas.is_good(found), found
    else:
        assert not all(found.silent) and not all(found.echoing_later), found
        assert found.shows_addresses and found.lets_choose, found


@pytest.mark.parametrize("kind", mcp_servers.KINDS)
@pytest.mark.parametrize("held", HELD)
def test_all_requests_of_a_session_reach_its_replica(stack, kind, held):
    ports = [stack.enter_context(mcp_servers.start(kind)).port for _ in range(demo_replicas.REPLICAS)]
    envoy = stack.enter_context(RealEnvoy(ReplicasConfig(ports, settings(held))))
    clients = [
        demo_replicas.Client(envoy.port, f"{kind} {number}", echoes=number % 2 == 0) for number in range(2 * CLIENTS)
    ]
    for client in clients:
        client.open()
    answered = [client.list_tools().status for _ in range(3) for client in clients]
    assert set(answered) == {200}
    for client in clients:
        with client.stream() as stream:
            assert stream.status == 200
    assert envoy.counter("unpinned") == 0 and envoy.counter("recovered") == 0


@pytest.mark.parametrize("held", HELD)
def test_no_client_chooses_a_host_and_none_learns_of_one(stack, replicas, held):
    envoy = stack.enter_context(RealEnvoy(ReplicasConfig(replicas.ports, settings(held))))
    forged = [("accept", BOTH), (HOST, f"127.0.0.1:{replicas.ports[0]}")]
    clients = clients_of(envoy, 4 * CLIENTS)
    answers = [client.initialize(headers=forged) for client in clients]
    assert len({replicas.holding(answer.session).port for answer in answers}) > 1
    for client, answer in zip(clients, answers, strict=True):
        follow_up = client.list_tools(headers=forged)
        elsewhere = client.list_tools(headers=forged, path="/elsewhere")
        assert follow_up.result["session"] == answer.session
        assert {reply.header(HOST) for reply in (answer, follow_up, elsewhere)} == {None}
    assert not any(request.all(HOST) for request in replicas.requests())


@pytest.mark.parametrize("retries", [True, False], ids=["retries", "no-retries"])
@pytest.mark.parametrize("echoes", [True, False], ids=["echoing", "silent"])
@pytest.mark.parametrize("held", HELD)
def test_a_session_moves_when_its_replica_can_not_be_connected_to(stack, replicas, held, echoes, retries):
    config = ReplicasConfig(replicas.ports, settings(held))
    if not retries:
        # Then the client's own request is answered 503, and only the filter's look further.
        del config.route["retry_policy"]
    envoy = stack.enter_context(RealEnvoy(config))
    client = demo_replicas.Client(envoy.port, "a caller", echoes)
    died = replicas.holding(client.open().session)
    died.stop_listening()
    moved = client.list_tools()
    assert moved.status == 200
    assert replicas.holding(moved.result["session"]) is not died
    # There it stays, though the first one is back.
    died.listen_again()
    assert client.list_tools().result["session"] == moved.result["session"]
    assert envoy.counter("recovered") + envoy.counter("redirected") >= 1


def test_no_session_moves_while_no_replica_can_be_connected_to(stack, replicas):
    envoy = stack.enter_context(RealEnvoy(ReplicasConfig(replicas.ports, settings(True))))
    [client] = clients_of(envoy, 1)
    session = client.initialize().session
    for server in replicas.servers:
        server.stop_listening()
    assert client.list_tools().status == 503
    for server in replicas.servers:
        server.listen_again()
    assert client.list_tools().result["session"] == session
    assert envoy.counter("recovered") == 0


@pytest.mark.parametrize("held", HELD)
def test_a_session_moves_when_its_replica_has_left_the_cluster(stack, replicas, tmp_path, held):
    config = ReplicasConfig(replicas.ports, settings(held))
    hosts = Endpoints(config, tmp_path / "endpoints.yaml")
    hosts.write(replicas.ports)
    envoy = stack.enter_context(RealEnvoy(config))
    [client] = clients_of(envoy, 1)
    session = client.initialize().session
    left = replicas.holding(session)
    hosts.write([server.port for server in replicas.others(left)])
    envoy.wait_for_stat("cluster.mcp_server.membership_total", 2)
    moved = client.list_tools()
    assert moved.status == 200
    assert replicas.holding(moved.result["session"]) is not left
    assert envoy.counter("recovered") == 1


class Endpoints:
    """The cluster's hosts in a file that Envoy watches."""

    def __init__(self, config, path):
        self.path = path
        del config.cluster["load_assignment"]
        config.cluster["type"] = "EDS"
        config.tree["node"] = {"id": "test", "cluster": "test"}
        source = {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
        config.cluster["eds_cluster_config"] = {"eds_config": source}

    def write(self, ports):
        addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports]
        hosts = [{"endpoint": {"address": address}} for address in addresses]
        assignment = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "mcp_server",
            "endpoints": [{"lb_endpoints": hosts}],
        }
        # Envoy watches for files that are moved into place.
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps({"resources": [assignment]}))
        os.replace(draft, self.path)


def test_a_session_that_clients_share_stays_on_one_replica(stack, replicas):
    config = ReplicasConfig(replicas.ports, settings(True, on_reinitialize="reuse"))
    envoy = stack.enter_context(RealEnvoy(config))
    clients = [SilentClient(envoy.port, [("x-api-key", "shared")]) for _ in range(CLIENTS)]
    sessions = {client.initialize().session for client in clients}
    seen = {client.list_tools().result["session"] for client in clients}
    assert len(sessions) == 1 and seen == sessions
    assert envoy.counter("reused") == CLIENTS - 1 and envoy.counter("unpinned") == 0


def test_a_cluster_that_does_not_name_its_hosts_is_counted(stack, replicas):
    config = ReplicasConfig(replicas.ports, settings(True, on_reinitialize="reuse"))
    del config.cluster["typed_extension_protocol_options"]
    envoy = stack.enter_context(RealEnvoy(config))
    [client] = clients_of(envoy, 1)
    assert client.initialize().status == 200
    assert envoy.counter("unpinned") == 1
