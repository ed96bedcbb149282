"""Envoy's /stats/prometheus as it is written.

prometheus_client's parser renames counters to what OpenMetrics wants, and by that makes one of two that Envoy keeps
apart: envoy_cluster_upstream_rq and envoy_cluster_upstream_rq_total.
"""

import re
from dataclasses import dataclass, field

TYPE = re.compile(r"# TYPE (\w+) (counter|gauge|histogram)")
SAMPLE = re.compile(r"(\w+)\{(.*)\} (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


@dataclass
class Exposition:
    """`types` by the name of a metric; `samples` are (name, labels, value)."""

    types: dict = field(default_factory=dict)
    samples: list = field(default_factory=list)

    def type_of(self, name):
        """Of a metric, or of what a histogram consists of; None if there is no such metric."""
        for part in HISTOGRAM_PARTS:
            if self.types.get(name.removesuffix(part)) == "histogram" and name.endswith(part):
                return "histogram"
        kind = self.types.get(name)
        return None if kind == "histogram" else kind

    def series(self, name):
        """The labels of all samples of this name."""
        return [labels for known, labels, _ in self.samples if known == name]

    def values(self, name, label):
        """By the value of this label."""
        return {labels[label]: value for known, labels, value in self.samples if known == name}


def parse(text):
    found = Exposition()
    for line in filter(None, text.splitlines()):
        if match := TYPE.fullmatch(line):
            assert match[1] not in found.types, f"{match[1]} has two types"
            found.types[match[1]] = match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line}"
            found.samples.append((match[1], dict(LABEL.findall(match[2])), float(match[3])))
    return found
