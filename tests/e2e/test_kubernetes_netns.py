"""The pods of envoy/kubernetes without a cluster: LiteLLM, Envoy and a server that holds one session.

Each pod is a network namespace, and each container runs with the user, the rights, the files, the arguments and the
environment of its manifest; a name server and its search domains are as the kubelet sets them up.
"""

import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pods
import pytest
import yaml
from litellm_scene import BOTH
from manifests import all_containers, changed, container, envoy_config, listening, pod_spec, render
from pods import Network, Pod
from silent_client import INITIALIZE, request

pytestmark = pytest.mark.netns

KEY = "sk-" + secrets.token_hex(16)
SECRETS = {"master-key": KEY, "filter-key": secrets.token_hex(32)}


@pytest.fixture(scope="module", autouse=True)
def needs():
    if lacking := pods.lacking():
        pytest.skip(lacking)


@pytest.fixture(scope="module")
def sidecar():
    return render("server", "sidecar")


@pytest.fixture
def nodes():
    with Network("server", "litellm", "other") as made:
        yield made


@pytest.fixture(scope="module")
def pair(sidecar):
    """The server's pod and LiteLLM's, Envoy in the latter, and a node that has none of the two."""
    with Network("server", "litellm", "other") as (first, second, other):
        with Pod(first, sidecar, "mcp-searxng") as server, litellm_pod(second, sidecar) as litellm:
            yield server, litellm, other


def litellm_pod(node, objects, **options):
    return Pod(node, objects, "litellm", SECRETS, **options)


def list_tools(client, pod):
    """How many tools LiteLLM shows to a client at another node."""
    return client.ask(pod.node.address, 4000, "/mcp-rest/tools/list", headers={"authorization": f"Bearer {KEY}"}).tools


def lists_at_once(client, pod, count=3):
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(list_tools, client, pod) for _ in range(count)]
        return [one.result() for one in asked]


def counted(client, pod, outcome):
    """What Prometheus would be told, through the port that it reaches."""
    text = client.ask(pod.node.address, 9902, "/stats/prometheus").text
    return int(re.search(rf"^mcp_session_{outcome}{{}} (\d+)$", text, re.MULTILINE)[1])


def abandon_a_session(node, host):
    """Somebody opens a session at this Envoy, and is never heard of again."""
    headers = {**BOTH, "x-api-key": "somebody", "host": "mcp-searxng:10000"}
    return node.ask(host, 10000, "/mcp", "POST", headers, request("initialize", INITIALIZE))


def test_litellm_lists_tools_each_time(pair):
    _, litellm, other = pair
    before = counted(other, litellm, "reused")
    assert [lists_at_once(other, litellm) for _ in range(5)] == [[2, 2, 2]] * 5
    assert counted(other, litellm, "reused") >= before + 14


def test_every_probe_is_answered(pair):
    server, litellm, other = pair
    assert set(server.ask_probes(other).values()) == {200}
    assert set(litellm.ask_probes(other).values()) == {200}
    assert len(litellm.ask_probes(other)) == 6


def test_only_its_own_pod_reaches_envoy(pair, sidecar):
    server, litellm, other = pair
    config = envoy_config(sidecar, "litellm")
    private = [listening(config)["mcp"][1], config["admin"]["address"]["socket_address"]["port_value"]]
    for port in private:
        assert litellm.node.ask("127.0.0.1", port, "/").status != 0
        for outside in (server.node, other):
            assert "refused" in outside.ask(litellm.node.address, port, "/").text


def status_of(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.parametrize("name", ["envoy", "litellm"])
def test_a_container_has_the_user_and_the_rights_of_its_manifest(name, pair):
    _, litellm, _ = pair
    status = status_of(litellm[name])
    assert status["Uid"].split() == [str(container(litellm.spec, name)["securityContext"]["runAsUser"])] * 4
    assert {status[right].strip("0") for right in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {""}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("name", "place", "can"),
    [
        ("envoy", "/var/lib/mcp-session-filter/plugin.wasm", False),
        ("envoy", "/etc/envoy/envoy.yaml", False),
        ("envoy", "/new", False),
        ("litellm", "/etc/litellm/config.yaml", False),
        ("litellm", "/new", False),
        ("litellm", "/tmp/new", True),
    ],
)
def test_a_container_writes_only_where_its_manifest_lets_it(name, place, can, pair):
    _, litellm, _ = pair
    # Even root can't where the file system itself is mounted read-only.
    enter = ["nsenter", f"--target={litellm[name].pid}", "--mount", "--root", "touch", place]
    touched = subprocess.run(enter, capture_output=True, text=True, timeout=10)
    assert (touched.returncode == 0) is can
    assert can or "Read-only file system" in touched.stderr


def test_the_server_is_restarted_and_litellm_lists_all_the_same(pair):
    server, litellm, other = pair
    assert list_tools(other, litellm) == 2
    for _ in range(3):
        before = counted(other, litellm, "recovered")
        server.start_again("mcp-searxng")
        assert list_tools(other, litellm) == 2
        assert counted(other, litellm, "recovered") > before


# So does a pod that is replaced.
def test_beside_litellm_an_envoy_that_starts_again_leaves_a_session_behind_that_blocks_the_server(pair):
    server, litellm, other = pair
    assert list_tools(other, litellm) == 2
    litellm.start_again("envoy")
    assert list_tools(other, litellm) == 0
    server.start_again("mcp-searxng")
    assert list_tools(other, litellm) == 2


# After the tests that made it work.
def test_the_containers_keep_within_their_limits_of_memory(pair):
    for pod in pair[:2]:
        for one in all_containers(pod.spec):
            amount, unit = re.fullmatch(r"(\d+)(Mi|Gi)", one["resources"]["limits"]["memory"]).groups()
            most = int(status_of(pod[one["name"]])["VmHWM"].split()[0])
            assert most < int(amount) * {"Mi": 1024, "Gi": 1024**2}[unit], one["name"]


def without_filter(name, text):
    if name != "envoy.yaml":
        return text
    tree = yaml.safe_load(text)
    manager = tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [one for one in manager["http_filters"] if one["name"] != "mcp_session_filter"]
    return yaml.safe_dump(tree)


def test_without_the_filter_tools_do_not_load(nodes, sidecar):
    with (
        Pod(nodes[0], sidecar, "mcp-searxng"),
        litellm_pod(nodes[1], sidecar, change=without_filter) as litellm,
    ):
        # As it starts, LiteLLM lists the tools for itself, in a session that ours must not meet.
        litellm["envoy"].out.wait_for('"DELETE /mcp"')
        assert list_tools(nodes[2], litellm) == 2
        assert abandon_a_session(litellm.node, "127.0.0.1").status == 200
        assert list_tools(nodes[2], litellm) == 0


@pytest.fixture(scope="module")
def alone(sidecar):
    """LiteLLM's pod without Envoy."""

    def leave_out_envoy(objects):
        spec = pod_spec(objects, "litellm")
        del spec["initContainers"]
        spec["volumes"] = [one for one in spec["volumes"] if one["name"] in ("litellm", "tmp")]

    return changed(sidecar, leave_out_envoy)


def through_the_service(name, text):
    """The Service's port leads to Envoy's, which nothing does for us here."""
    return text.replace("127.0.0.1:10000", "mcp-searxng:10000")


def test_beside_the_server_all_that_come_share_its_session_wherever_they_are(nodes, alone):
    first, second, other = nodes
    with (
        Pod(first, render("server-with-envoy"), "mcp-searxng", SECRETS) as server,
        litellm_pod(second, alone, change=through_the_service) as litellm,
    ):
        assert set(server.ask_probes(other).values()) == {200}
        assert lists_at_once(other, litellm) == [2, 2, 2]
        # To Envoy, a LiteLLM whose pod was replaced is a client at another address.
        assert abandon_a_session(other, first.address).status == 200
        assert lists_at_once(other, litellm) == [2, 2, 2]
        server.start_again("mcp-searxng")
        assert lists_at_once(other, litellm) == [2, 2, 2]
        assert counted(other, server, "recovered") > 0
        assert "refused" in other.ask(first.address, 9901, "/").text


def test_envoy_runs_with_a_module_that_an_init_container_has_copied(nodes):
    objects = render("sidecar", components=["copied-module"])
    objects = changed(objects, lambda objects: pod_spec(objects, "litellm")["containers"].clear())
    with litellm_pod(nodes[1], objects) as pod:
        assert set(pod.ask_probes(nodes[2]).values()) == {200}
