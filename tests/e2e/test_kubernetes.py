"""The manifests of envoy/kubernetes: Kubernetes takes them, their names match, and Envoy runs what is in them."""

import re
import shutil
import subprocess

import mcp_servers
import pytest
import yaml
from litellm_scene import ask
from manifest_checks import problems
from manifests import (
    FOLDER,
    all_containers,
    changed,
    container,
    envoy_config,
    find,
    kustomize,
    listening,
    plugin,
    pod_spec,
    refused_by_schema,
    render,
)
from processes import ENVOY, ROOT
from real_envoy import MODULE, EnvoyConfig, RealEnvoy
from silent_client import SilentClient

SIDECAR = ("server", "sidecar")
SERVER = ("server-with-envoy",)
# What each is for, and the Deployment that Envoy is in.
PLACEMENTS = {"sidecar": (SIDECAR, "litellm"), "server": (SERVER, "mcp-searxng")}
placements = pytest.mark.parametrize(("folders", "deployment"), PLACEMENTS.values(), ids=PLACEMENTS)


@pytest.fixture(scope="module")
def sidecar():
    return render(*SIDECAR)


@pytest.fixture(scope="module")
def server():
    return render(*SERVER)


def copied(folders):
    """With the module copied instead of mounted: a component belongs to the folder that has Envoy in it."""
    with_envoy = render(folders[-1], components=["copied-module"])
    return render(*folders[:-1]) + with_envoy if folders[:-1] else with_envoy


# 1.33: native sidecars are stable. 1.35: image volumes are on by default. 1.37: the newest that the schemas have.
VERSIONS = ["1.33", "1.35", "1.37"]


@placements
def test_the_schemas_of_kubernetes_take_the_manifests(folders, deployment, tmp_path):
    assert refused_by_schema(render(*folders) + copied(folders), tmp_path, *VERSIONS) == []


def test_the_schemas_know_no_image_volumes_before_they_came(sidecar, tmp_path):
    refused = refused_by_schema(sidecar + copied(SIDECAR), tmp_path, "1.30")
    assert len(refused) == 1
    assert "'image' was unexpected" in refused[0]


def litellm(objects):
    return container(pod_spec(objects, "litellm"), "litellm")


def envoy(objects):
    return container(pod_spec(objects, "litellm"), "envoy")


WRONG_FOR_SCHEMAS = {
    "a misspelled key": lambda objects: envoy(objects).update(volumeMount=[]),
    "a key in the wrong place": lambda objects: pod_spec(objects, "litellm").update(readOnlyRootFilesystem=True),
    "a number that is a word": lambda objects: find(objects, "Deployment", "litellm")["spec"].update(replicas="one"),
    "a word that is a number": lambda objects: envoy(objects)["args"].append(2),
    "a port that is a list": lambda objects: litellm(objects)["readinessProbe"]["httpGet"].update(port=["http"]),
    "no selector": lambda objects: find(objects, "Deployment", "litellm")["spec"].pop("selector"),
    "an unknown kind": lambda objects: find(objects, "Deployment", "litellm").update(kind="Deploymint"),
    "a version that is gone": lambda objects: find(objects, "Deployment", "litellm").update(apiVersion="apps/v1beta1"),
    "an unknown source of a volume": lambda objects: pod_spec(objects, "litellm")["volumes"][0].update(oci={}),
}


@pytest.mark.parametrize("change", WRONG_FOR_SCHEMAS.values(), ids=WRONG_FOR_SCHEMAS)
def test_the_schemas_refuse(change, sidecar, tmp_path):
    assert len(refused_by_schema(changed(sidecar, change), tmp_path, VERSIONS[-1])) == 1


@placements
def test_all_names_in_the_manifests_lead_somewhere(folders, deployment):
    assert problems(render(*folders)) == []
    assert problems(copied(folders)) == []


def volumes(objects):
    return pod_spec(objects, "litellm")["volumes"]


def config_map(objects, start):
    [found] = [one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith(start)]
    return found


def copy_after_envoy(objects):
    pod_spec(objects, "litellm")["initContainers"].append({**envoy(objects), "name": "copy-module"})


def listen_for_all(objects):
    files = config_map(objects, "litellm-envoy")["data"]
    files["envoy.yaml"] = files["envoy.yaml"].replace("127.0.0.1, port_value: 10000", "0.0.0.0, port_value: 10000")


WRONG_NAMES = {
    "volume envoy is not mounted": lambda objects: envoy(objects)["volumeMounts"].pop(0),
    "volume configs does not exist": lambda objects: envoy(objects)["volumeMounts"][0].update(name="configs"),
    "ConfigMap other does not exist": lambda objects: volumes(objects)[1]["configMap"].update(name="other"),
    "more than one source": lambda objects: volumes(objects)[0].update(emptyDir={}),
    "no file /etc/envoy/envoy.yaml": lambda objects: config_map(objects, "litellm-envoy")["data"].pop("envoy.yaml"),
    "no volume for": lambda objects: envoy(objects)["volumeMounts"][1].update(mountPath="/srv"),
    "asks at no port of its own": lambda objects: envoy(objects)["readinessProbe"]["httpGet"].update(port="http"),
    "at 0.0.0.0:9902 does not go with": lambda objects: envoy(objects)["ports"][0].update(containerPort=9903),
    "at 0.0.0.0:10000 does not go with": listen_for_all,
    "Envoy is no sidecar": lambda objects: envoy(objects).pop("restartPolicy"),
    "copied after Envoy has started": copy_after_envoy,
    "the selector does not select": lambda objects: find(objects, "Deployment", "litellm")["spec"]["selector"].update(
        matchLabels={"app": "litellm"}
    ),
    "Service litellm selects no pod": lambda objects: find(objects, "Service", "litellm")["spec"].update(selector={}),
    "Service litellm leads to no port": lambda objects: litellm(objects)["ports"].pop(),
    "is not pinned": lambda objects: litellm(objects).update(image="litellm/litellm:latest"),
    "runs as root": lambda objects: envoy(objects)["securityContext"].pop("runAsUser"),
    "readOnlyRootFilesystem is not": lambda objects: envoy(objects)["securityContext"].pop("readOnlyRootFilesystem"),
    "has no limit of memory": lambda objects: envoy(objects)["resources"]["limits"].clear(),
}


@pytest.mark.parametrize(("told", "change"), WRONG_NAMES.items(), ids=WRONG_NAMES)
def test_a_name_that_leads_nowhere_is_found(told, change, sidecar):
    assert any(told in problem for problem in problems(changed(sidecar, change)))


def policy(objects):
    return find(objects, "NetworkPolicy")["spec"]


WRONG_POLICIES = {
    "selects no pod": lambda objects: policy(objects)["podSelector"].update(matchLabels={"app": "mcp-searxng"}),
    "names no port mcp-proxy": lambda objects: policy(objects)["ingress"][0]["ports"][0].update(port="mcp-proxy"),
}


@pytest.mark.parametrize(("told", "change"), WRONG_POLICIES.items(), ids=WRONG_POLICIES)
def test_a_policy_that_misses_its_pods_is_found(told, change, server):
    assert problems(changed(server, change)) == [f"NetworkPolicy mcp-searxng {told}"]


def test_the_policy_lets_the_pods_of_litellm_in(sidecar, server):
    [source] = policy(server)["ingress"][0]["from"]
    labels = find(sidecar, "Deployment", "litellm")["spec"]["template"]["metadata"]["labels"]
    assert source["podSelector"]["matchLabels"].items() <= labels.items()


def test_litellm_asks_envoy_and_envoy_asks_the_service_of_the_server(sidecar):
    config = envoy_config(sidecar, "litellm")
    url = yaml.safe_load(config_map(sidecar, "litellm-config")["data"]["config.yaml"])["mcp_servers"]["searxng"]["url"]
    assert url == "http://{}:{}/mcp".format(*listening(config)["mcp"])
    service = find(sidecar, "Service", "mcp-searxng")
    port = service["spec"]["ports"][0]["port"]
    assert upstream(config) == {"address": service["metadata"]["name"], "port_value": port}


def upstream(config):
    endpoints = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    return endpoints[0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]


def test_the_service_of_the_server_leads_to_envoy_and_envoy_to_the_server(server):
    config = envoy_config(server, "mcp-searxng")
    envoy = container(pod_spec(server, "mcp-searxng"), "envoy")
    leads_to = find(server, "Service", "mcp-searxng")["spec"]["ports"][0]["targetPort"]
    assert {"name": leads_to, "containerPort": listening(config)["mcp"][1]} in envoy["ports"]
    own = container(pod_spec(server, "mcp-searxng"), "mcp-searxng")["ports"][0]["containerPort"]
    assert upstream(config) == {"address": "127.0.0.1", "port_value": own}


def test_the_readme_makes_every_secret_that_a_manifest_reads(sidecar, server):
    commands = re.findall(r"create secret generic (\S+)((?:[^\n]*\\\n)*[^\n]*)", (FOLDER / "README.md").read_text())
    made = {(name, key) for name, rest in commands for key in re.findall(r"--from-literal=([^=]+)=", rest)}
    specs = pod_spec(sidecar, "litellm"), pod_spec(server, "mcp-searxng")
    entries = [entry for spec in specs for one in all_containers(spec) for entry in one.get("env", [])]
    read = [entry["valueFrom"]["secretKeyRef"] for entry in entries if "valueFrom" in entry]
    assert {(secret["name"], secret["key"]) for secret in read} == made


@pytest.mark.parametrize("placement", ["sidecar", "server-with-envoy"])
def test_the_kustomization_that_the_readme_shows_has_the_module_copied(placement, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    [shown] = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    (tmp_path / "kubernetes/mine").mkdir()
    (tmp_path / "kubernetes/mine/kustomization.yaml").write_text(shown.replace("../sidecar", f"../{placement}"))
    built = yaml.safe_load_all(kustomize(tmp_path / "kubernetes/mine"))
    assert list(built) == render(placement, components=["copied-module"])


def test_a_changed_configuration_replaces_the_pods(tmp_path):
    names = set()
    for settings in ("{}", '{"mode": "observe"}'):
        (tmp_path / "envoy.yaml").write_text(settings)
        generator = [{"name": "litellm-envoy", "files": ["envoy.yaml"]}]
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"configMapGenerator": generator}))
        names.add(yaml.safe_load(kustomize(tmp_path))["metadata"]["name"])
    assert len(names) == 2


class ManifestConfig(EnvoyConfig):
    """Envoy's configuration as a manifest has it; only addresses and the module's path are others."""

    def __init__(self, objects, deployment, server_port):
        self.tree = envoy_config(objects, deployment)
        for listener in self.tree["static_resources"]["listeners"]:
            listener["address"]["socket_address"].update(address="127.0.0.1", port_value=0)
        upstream(self.tree)["address"] = "127.0.0.1"
        self.point_at(server_port)
        self.plugin["vm_config"]["code"]["local"]["filename"] = str(MODULE)
        self.connection_manager["always_set_request_id_in_response"] = True
        # Its health listener knows the admin interface by its port.
        self.admin_port = mcp_servers.free_port()
        admin = self.tree["static_resources"]["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
        for place in (admin["endpoint"]["address"], self.tree["admin"]["address"]):
            place["socket_address"]["port_value"] = self.admin_port


@placements
def test_envoy_takes_its_configuration_as_it_stands(folders, deployment, tmp_path):
    # Apart from the module's place: Envoy reads it to validate.
    config = envoy_config(render(*folders), deployment)
    plugin(config)["vm_config"]["code"]["local"]["filename"] = str(MODULE)
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    command = [ENVOY, "--mode", "validate", "--config-path", tmp_path / "envoy.yaml"]
    verdict = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert verdict.returncode == 0, verdict.stderr


@pytest.fixture(scope="module")
def everything():
    with mcp_servers.start("everything") as running:
        yield running


@pytest.fixture(scope="module", params=PLACEMENTS.values(), ids=PLACEMENTS)
def running(request, everything):
    folders, deployment = request.param
    with RealEnvoy(ManifestConfig(render(*folders), deployment, everything.port)) as envoy:
        yield envoy


def test_clients_share_one_session_and_one_without_an_id_is_repaired(running):
    opened = SilentClient(running.port).initialize()
    again = SilentClient(running.port).initialize()
    assert (again.session, running.outcome(again)) == (opened.session, "reused")
    listed = SilentClient(running.port).list_tools()
    assert (listed.status, running.outcome(listed)) == (200, "repaired")
    assert listed.result["tools"]


def test_the_health_listener_shows_that_envoy_is_ready_and_what_it_counted(running):
    assert ask(running.ports["health"], "GET", "/ready", {}).text == "LIVE\n"
    assert ask(running.ports["health"], "GET", "/live", {}).status == 200
    assert "envoy_listener_manager" in ask(running.ports["health"], "GET", "/stats/prometheus", {}).text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/stats"),
        ("GET", "/config_dump"),
        ("POST", "/quitquitquit"),
        ("POST", "/ready"),
        ("GET", "/ready/"),
        ("GET", "/ready/../config_dump"),
        ("POST", "/ready/../quitquitquit"),
        ("GET", "/ready%2F..%2Fconfig_dump"),
        ("GET", "//config_dump"),
    ],
)
def test_the_health_listener_shows_nothing_else(method, path, running):
    assert ask(running.ports["health"], method, path, {}).status == 404


def test_who_drains_is_not_ready_but_lives(everything):
    with RealEnvoy(ManifestConfig(render(*SIDECAR), "litellm", everything.port)) as envoy:
        assert ask(int(envoy.admin.rpartition(":")[2]), "POST", "/healthcheck/fail", {}).status == 200
        assert ask(envoy.ports["health"], "GET", "/ready", {}).status == 503
        assert ask(envoy.ports["health"], "GET", "/live", {}).status == 200


def test_beside_the_server_all_clients_are_one_caller(server, everything):
    with RealEnvoy(ManifestConfig(server, "mcp-searxng", everything.port)) as envoy:
        first = SilentClient(envoy.port).initialize()
        others = [
            SilentClient(envoy.port, source="127.0.0.2"),
            SilentClient(envoy.port, [("authorization", "Bearer other"), ("x-forwarded-for", "192.0.2.1")]),
        ]
        assert [client.initialize().session for client in others] == [first.session] * 2
