"""Says what a Kubernetes API server would say to a manifest: its CRD's schema first, then the CEL rules in it."""

import base64
import binascii
import datetime
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import celpy
import celpy.celtypes
import jsonschema
import yaml
from processes import ROOT

# The fast one, where it is: CRDs are long.
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Where the CRDs lie: a folder of YAML files.
FOLDERS = [os.environ["CRDS"]] if os.environ.get("CRDS") else [ROOT.parent / "shared/crds", ROOT / "target/crds"]

ISTIO = "istio/istio 1.30.3: manifests/charts/base/files/crd-all.gen.yaml"
ENVOY_GATEWAY = "envoyproxy/gateway v1.9.0: charts/gateway-helm/charts/crds/crds/generated"
GATEWAY_API = "envoyproxy/gateway v1.9.0: charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml"
HIGRESS = "alibaba/higress v2.2.1: helm/core/crds/customresourcedefinitions.gen.yaml"
# Which file of which project has the CRD of a kind.
UPSTREAM = {
    ("extensions.higress.io", "WasmPlugin"): HIGRESS,
    ("extensions.istio.io", "TrafficExtension"): ISTIO,
    ("extensions.istio.io", "WasmPlugin"): ISTIO,
    ("networking.istio.io", "EnvoyFilter"): ISTIO,
    ("networking.istio.io", "Gateway"): ISTIO,
    ("networking.istio.io", "Sidecar"): ISTIO,
    ("networking.istio.io", "VirtualService"): ISTIO,
    ("security.istio.io", "AuthorizationPolicy"): ISTIO,
    ("security.istio.io", "PeerAuthentication"): ISTIO,
    ("security.istio.io", "RequestAuthentication"): ISTIO,
    ("gateway.envoyproxy.io", "BackendTrafficPolicy"): ENVOY_GATEWAY,
    ("gateway.envoyproxy.io", "ClientTrafficPolicy"): ENVOY_GATEWAY,
    ("gateway.envoyproxy.io", "EnvoyExtensionPolicy"): ENVOY_GATEWAY,
    ("gateway.envoyproxy.io", "EnvoyPatchPolicy"): ENVOY_GATEWAY,
    ("gateway.envoyproxy.io", "EnvoyProxy"): ENVOY_GATEWAY,
    ("gateway.envoyproxy.io", "SecurityPolicy"): ENVOY_GATEWAY,
    ("gateway.networking.k8s.io", "Gateway"): GATEWAY_API,
    ("gateway.networking.k8s.io", "HTTPRoute"): GATEWAY_API,
}


def load():
    """Each CRD that is at hand, by group and kind."""
    found = {}
    for folder in FOLDERS:
        for path in sorted(Path(folder).glob("*.yaml")):
            for crd in yaml.load_all(path.read_text(), YAML):
                if crd and crd["kind"] == "CustomResourceDefinition":
                    found.setdefault((crd["spec"]["group"], crd["spec"]["names"]["kind"]), crd)
    return found


def missing(group, kind):
    """What to tell somebody who has no CRD for this kind."""
    places = " or ".join(str(folder) for folder in FOLDERS)
    return f"no CRD of {group} {kind} in {places}: take it from {UPSTREAM[group, kind]}; CRDS names another folder"


def group_and_kind(manifest):
    return manifest["apiVersion"].rpartition("/")[0], manifest["kind"]


def complaints(crd, manifest):
    """All that speaks against the manifest, each with its place; defaults are filled in on the way."""
    version = manifest["apiVersion"].rpartition("/")[2]
    served = {entry["name"]: entry for entry in crd["spec"]["versions"] if entry["served"]}
    if version not in served:
        return [f"apiVersion: {version} is not served, but {', '.join(served)}"]
    schema = served[version]["schema"]["openAPIV3Schema"]
    fill_in_defaults(schema, manifest)
    validator = jsonschema.Draft202012Validator(as_json_schema(schema, top=True), format_checker=FORMATS)
    errors = [f"{place(error.absolute_path)}: {error.message}" for error in validator.iter_errors(manifest)]
    errors += list(equal_entries(schema, manifest, ()))
    # As in the API server: a rule may rely on what the schema says.
    return errors or list(broken_rules(schema, manifest, ()))


def place(path):
    return re.sub(r"^\.", "", "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)) or "manifest"


# --- schema ---------------------------------------------------------------------------------------------------------

METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 253, "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
        "namespace": {"type": "string", "maxLength": 63, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}
# The keywords of a structural schema that mean what they mean in JSON schema.
SAME = [
    *("type", "enum", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "multipleOf", "required"),
    *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
    *("oneOf", "anyOf", "allOf", "not"),
]


def as_json_schema(schema, top=False):
    """A structural schema in JSON schema: what it does not name is refused, as `kubectl apply` does."""
    result = {key: schema[key] for key in SAME if key in schema}
    # OpenAPI 3.0 writes a limit and "not the limit itself" as two keywords.
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if result.pop(exclusive, False):
            result[exclusive] = result.pop(limit)
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if schema.get("nullable"):
        result["type"] = [result["type"], "null"]
        if "enum" in result:
            result["enum"] = [*result["enum"], None]
    if "items" in schema:
        result["items"] = as_json_schema(schema["items"])
    if schema.get("type") != "object":
        return result
    result["properties"] = {name: as_json_schema(entry) for name, entry in schema.get("properties", {}).items()}
    if top:
        result["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": METADATA}
        result["required"] = sorted({*result.get("required", []), "apiVersion", "kind", "metadata"})
    if "additionalProperties" in schema:
        more = schema["additionalProperties"]
        result["additionalProperties"] = more if isinstance(more, bool) else as_json_schema(more)
    else:
        result["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    return result


FORMATS = jsonschema.FormatChecker(formats=[])


def _format(name, *refusals):
    return FORMATS.checks(name, raises=refusals)


@_format("int32")
def _int32(value):
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@_format("int64")
def _int64(value):
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@_format("byte", binascii.Error)
def _byte(value):
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


@_format("date-time", ValueError)
def _date_time(value):
    return not isinstance(value, str) or datetime.datetime.fromisoformat(value.replace("Z", "+00:00")) is not None


def fill_in_defaults(schema, value):
    for name, entry in schema.get("properties", {}).items():
        if not isinstance(value, dict):
            return
        if "default" in entry and (name not in value or (value[name] is None and not entry.get("nullable"))):
            value[name] = entry["default"]
    for entry, inner, _ in children(schema, value):
        fill_in_defaults(entry, inner)


def children(schema, value):
    """The values right inside this one, each with its schema and key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            entry = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(entry, dict):
                yield entry, inner, key
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield schema.get("items", {}), inner, index


def equal_entries(schema, value, path):
    """Entries of a set that are equal, or of a list whose keys must differ."""
    kind = schema.get("x-kubernetes-list-type")
    if kind in ("map", "set") and isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys")
        seen = [[entry.get(key) for key in keys] if kind == "map" else entry for entry in value]
        for index, entry in enumerate(seen):
            if entry in seen[:index]:
                yield f"{place([*path, index])}: Duplicate value {entry}"
    for entry, inner, key in children(schema, value):
        yield from equal_entries(entry, inner, (*path, key))


# --- CEL ------------------------------------------------------------------------------------------------------------


def _is_url(text):
    # Kubernetes takes what Go takes for a request's URI: absolute with a scheme, or a path.
    text = str(text)
    if re.search(r"[\x00-\x20\x7f]", text):
        return celpy.celtypes.BoolType(False)
    rooted = text.startswith("/")
    return celpy.celtypes.BoolType(rooted or bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text)))


# What Kubernetes adds to CEL, as far as these CRDs use it.
FUNCTIONS = {
    "isURL": _is_url,
    "url": lambda text: text,
    "getScheme": lambda url: celpy.celtypes.StringType(urlsplit(str(url)).scheme),
    "upperAscii": lambda text: celpy.celtypes.StringType(str(text).upper()),
    "lowerAscii": lambda text: celpy.celtypes.StringType(str(text).lower()),
}
ENVIRONMENT = celpy.Environment()
_programs = {}


def holds(rule, value):
    """As in the API server a rule that comes to no result is a broken one. One that can't be compiled raises."""
    if rule not in _programs:
        _programs[rule] = ENVIRONMENT.program(ENVIRONMENT.compile(rule), functions=FUNCTIONS)
    try:
        return bool(_programs[rule].evaluate({"self": celpy.json_to_cel(value)}))
    except celpy.CELEvalError:
        return False


def broken_rules(schema, value, path):
    for entry in schema.get("x-kubernetes-validations", []):
        # A rule about a change has nothing to say about a new object.
        if not re.search(r"\boldSelf\b", entry["rule"]) and not holds(entry["rule"], value):
            yield f"{place(path)}: {entry.get('message') or 'failed rule: ' + entry['rule']}"
    for entry, inner, key in children(schema, value):
        yield from broken_rules(entry, inner, (*path, key))
