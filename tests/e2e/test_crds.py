"""The check of manifests itself, on a small CRD: it takes and refuses what an API server would."""

import copy

import crds
import pytest

SPEC = {
    "type": "object",
    "required": ["name"],
    "x-kubernetes-validations": [
        {"rule": "!has(self.low) || self.low <= self.high", "message": "low over high"},
        {"rule": "self.name == oldSelf.name", "message": "name is immutable"},
    ],
    "properties": {
        "name": {"type": "string"},
        "low": {"type": "integer", "format": "int32"},
        "high": {"type": "integer", "default": 10},
        "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "maybe": {"type": "string", "nullable": True, "enum": ["a"]},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "closed": {"type": "object", "properties": {"a": {"type": "boolean", "default": True}}},
        "words": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["key"],
            "items": {
                "type": "object",
                "required": ["key"],
                "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
                "x-kubernetes-validations": [{"rule": "self.value.size() < 3", "message": "value too long"}],
            },
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2}},
        "above": {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
        "bytes": {"type": "string", "format": "byte"},
        "when": {"type": "string", "format": "date-time"},
    },
}
SCHEMA = {"type": "object", "required": ["spec"], "properties": {"spec": SPEC}}
CRD = {"spec": {"versions": [{"name": "v1", "served": True, "schema": {"openAPIV3Schema": SCHEMA}}]}}


def verdict(**spec):
    manifest = {"apiVersion": "example.com/v1", "kind": "A", "metadata": {"name": "a"}, "spec": {"name": "n", **spec}}
    return crds.complaints(copy.deepcopy(CRD), manifest), manifest["spec"]


RIGHT = [
    {},
    {"low": 10},
    {"low": 11, "high": 11},
    {"high": None},
    {"port": 80},
    {"port": "http"},
    {"maybe": None},
    {"free": {"any": [{"thing": 1}]}},
    {"closed": {}},
    {"words": ["a", "b"]},
    {"parts": [{"key": "a", "value": "1"}, {"key": "b", "value": "1"}]},
    {"labels": {"any": "ab"}},
    {"above": 2},
    {"bytes": "YQ==", "when": "2026-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("spec", RIGHT, ids=str)
def test_what_is_right_is_taken(spec):
    complaints, _ = verdict(**spec)
    assert complaints == []


WRONG = [
    ({"low": 11}, "spec: low over high"),
    ({"low": 2**31, "high": 2**32}, "spec.low: 2147483648 is not a 'int32'"),
    ({"low": True}, "spec.low: True is not of type 'integer'"),
    ({"name": None}, "spec.name: None is not of type 'string'"),
    ({"port": 1.5}, "spec.port: 1.5 is not"),
    ({"maybe": "b"}, "spec.maybe: 'b' is not one of ['a', None]"),
    ({"free": []}, "spec.free: [] is not of type 'object'"),
    ({"closed": {"b": 1}}, "spec.closed: Additional properties are not allowed ('b' was unexpected)"),
    ({"words": ["a", "a"]}, "spec.words[1]: Duplicate value a"),
    ({"parts": [{"key": "a"}, {"key": "a"}]}, "spec.parts[1]: Duplicate value ['a']"),
    ({"parts": [{"key": "a", "value": "123"}]}, "spec.parts[0]: value too long"),
    # A rule that comes to no result.
    ({"parts": [{"key": "a"}]}, "spec.parts[0]: value too long"),
    ({"labels": {"any": "abc"}}, "spec.labels.any: 'abc' is too long"),
    ({"above": 1}, "spec.above: 1 is less than or equal to the minimum of 1"),
    ({"bytes": "a"}, "spec.bytes: 'a' is not a 'byte'"),
    ({"when": "today"}, "spec.when: 'today' is not a 'date-time'"),
]


@pytest.mark.parametrize(("spec", "complaint"), WRONG, ids=str)
def test_what_is_wrong_is_refused(spec, complaint):
    complaints, _ = verdict(**spec)
    assert complaint in complaints or any(line.startswith(complaint) for line in complaints), complaints


def test_defaults_are_filled_in_before_the_rules_are_asked():
    _, filled = verdict(closed={}, high=None)
    assert filled == {"name": "n", "high": 10, "closed": {"a": True}}


def test_a_rule_that_is_no_cel_is_not_passed_over():
    broken = copy.deepcopy(CRD)
    spec = broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"] = [{"rule": "self.name ==", "message": "never"}]
    manifest = {"apiVersion": "example.com/v1", "kind": "A", "metadata": {"name": "a"}, "spec": {"name": "n"}}
    with pytest.raises(crds.celpy.CELParseError):
        crds.complaints(broken, manifest)
