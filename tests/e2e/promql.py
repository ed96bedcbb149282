"""What a PromQL expression asks for, and whether an Envoy has that."""

import promql_parser
from promql_parser import MatchOp

# What Prometheus itself adds to what it reads from a target.
OF_PROMETHEUS = {"job", "instance"}
UP = "up"
# What Grafana puts in place of its variables when all is chosen.
GRAFANA = {"$__rate_interval": "1m", "$__range": "1h", "$job": ".+", "$instance": ".+"}


def expand(expression):
    """A panel's expression as Grafana sends it."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that is not known: {expression}"
    return expression


def parts(expression):
    """All nodes of the expression; one that is no PromQL is a ValueError."""
    found = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return found


def selectors(expression):
    return [node for node in parts(expression) if isinstance(node, promql_parser.VectorSelector)]


def grouping_labels(expression):
    """Labels by which results are told apart."""
    nodes = [node for node in parts(expression) if isinstance(node, promql_parser.AggregateExpr) and node.modifier]
    return {label for node in nodes for label in node.modifier.labels}


def complaints(expression, exposition):
    """What this Envoy does not have of what the expression asks for, in words."""
    found, known_labels = [], set(OF_PROMETHEUS)
    for selector in selectors(expression):
        name = selector.name
        if name == UP:
            continue
        if exposition.type_of(name) is None:
            found.append(f"no metric {name}")
            continue
        series = exposition.series(name)
        labels = {label for one in series for label in one} | OF_PROMETHEUS
        known_labels |= labels
        for matcher in selector.matchers.matchers:
            found += unmatched(name, matcher, series, labels)
        if name.endswith("_bucket") != ("le" in grouping_labels(expression)):
            found.append(f"{name}: `by (le)` is for buckets, and all that is for them")
    found += [f"no label {label}" for label in sorted(grouping_labels(expression) - known_labels)]
    return found


def unmatched(name, matcher, series, labels):
    if matcher.name not in labels:
        return [f"{name} has no label {matcher.name}"]
    if matcher.name in OF_PROMETHEUS or matcher.op in (MatchOp.NotEqual, MatchOp.NotRe):
        return []
    # Of several, each has to be there: one that is misspelled would be missed by nobody.
    wanted = matcher.value.split("|") if matcher.op == MatchOp.Re else [matcher.value]
    there = {one.get(matcher.name) for one in series}
    return [f'{name} has no {matcher.name}="{value}"' for value in wanted if value not in there]


def ranges_over_counters(expression):
    """(function, metric) for each function that takes what a metric was over a time."""
    calls = [node for node in parts(expression) if isinstance(node, promql_parser.Call)]
    return [
        (call.func.name, argument.vector_selector.name)
        for call in calls
        for argument in call.args
        if isinstance(argument, promql_parser.MatrixSelector)
    ]
