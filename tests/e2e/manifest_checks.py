"""What no schema knows of our manifests: names that have to match, and what every container of ours promises."""

from pathlib import Path

from manifests import all_containers, container, envoy_config, listening, option, plugin


def problems(objects):
    """Names that lead nowhere, and Envoys that their pod can't start or reach."""
    return [problem for one in objects for problem in CHECKS.get(one["kind"], lambda *_: [])(one, objects)]


def labels_match(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def pods_of(objects, selector):
    """The pod templates that these labels select."""
    templates = [one["spec"]["template"] for one in objects if one["kind"] == "Deployment"]
    return [one for one in templates if labels_match(selector, one["metadata"]["labels"])]


def ports_of(spec):
    return {port["name"]: port["containerPort"] for one in all_containers(spec) for port in one.get("ports", [])}


def service_problems(service, objects):
    spec = service["spec"]
    pods = pods_of(objects, spec["selector"])
    if not pods:
        yield f"Service {service['metadata']['name']} selects no pod"
    for pod in pods:
        for port in spec["ports"]:
            if port["targetPort"] not in ports_of(pod["spec"]):
                yield f"Service {service['metadata']['name']} leads to no port {port['targetPort']}"


def policy_problems(policy, objects):
    pods = pods_of(objects, policy["spec"]["podSelector"]["matchLabels"])
    if not pods:
        yield f"NetworkPolicy {policy['metadata']['name']} selects no pod"
    for pod in pods:
        for port in (port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]):
            if port not in ports_of(pod["spec"]):
                yield f"NetworkPolicy {policy['metadata']['name']} names no port {port}"


def deployment_problems(deployment, objects):
    template = deployment["spec"]["template"]
    spec = template["spec"]
    if not labels_match(deployment["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]):
        yield "the selector does not select the Deployment's own pods"
    volumes = {one["name"]: one for one in spec.get("volumes", [])}
    mounted = {mount["name"] for one in all_containers(spec) for mount in one.get("volumeMounts", [])}
    yield from (f"volume {name} is not mounted" for name in volumes.keys() - mounted)
    yield from (f"volume {name} does not exist" for name in mounted - volumes.keys())
    config_maps = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
    for volume in volumes.values():
        if "configMap" in volume and volume["configMap"]["name"] not in config_maps:
            yield f"ConfigMap {volume['configMap']['name']} does not exist"
        if len(volume.keys() - {"name"}) != 1:
            yield f"volume {volume['name']} has more than one source, or none"
    for one in all_containers(spec):
        yield from container_problems(one)
    names = [one["name"] for one in all_containers(spec)]
    if "envoy" in names:
        yield from envoy_problems(deployment["metadata"]["name"], spec, objects, mounted - volumes.keys())


def container_problems(one):
    own = {port["name"] for port in one.get("ports", [])}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in one and one[probe]["httpGet"]["port"] not in own:
            yield f"{one['name']}: {probe} asks at no port of its own"
    _, _, tag = one["image"].partition(":")
    if tag in ("", "latest"):
        yield f"{one['name']}: image {one['image']} is not pinned"
    context = one["securityContext"]
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    yield from (f"{one['name']}: {key} is not {value}" for key, value in wanted.items() if context.get(key) != value)
    if context.get("runAsUser", 0) == 0:
        yield f"{one['name']} runs as root, or as whoever its image likes"
    if "memory" not in one["resources"]["limits"]:
        yield f"{one['name']} has no limit of memory"


def envoy_problems(deployment, spec, objects, missing):
    envoy = container(spec, "envoy")
    if missing:
        return
    if envoy.get("restartPolicy") != "Always":
        yield "Envoy is no sidecar: as an init container it would have to end"
    path = option(envoy, "--config-path")
    try:
        config = envoy_config(objects, deployment)
    except (KeyError, ValueError):
        yield f"no file {path} for Envoy"
        return
    module = Path(plugin(config)["vm_config"]["code"]["local"]["filename"])
    writers = [one for one in spec["initContainers"] if one["name"] == "copy-module"]
    if str(module.parent) not in [mount["mountPath"] for mount in envoy["volumeMounts"]]:
        yield f"no volume for {module}"
    if any(spec["initContainers"].index(one) > spec["initContainers"].index(envoy) for one in writers):
        yield "the module is copied after Envoy has started"
    for name, (address, port) in listening(config).items():
        named = port in [one["containerPort"] for one in envoy["ports"]]
        if named != (address == "0.0.0.0"):
            yield f"Envoy's listener {name} at {address}:{port} does not go with the ports of its container"


CHECKS = {"Deployment": deployment_problems, "Service": service_problems, "NetworkPolicy": policy_problems}
