"""Three replicas of a stateful server behind one Envoy: by itself, with Envoy's own stateful sessions, and with the filter.

Ends with an error unless with the filter every call reaches the replica that holds its session, or is answered in one
that was opened on another replica when its own has died.
"""

import argparse
import base64
import contextlib
import re
import signal
import sys
from dataclasses import dataclass, field

from processes import ROOT
from real_envoy import RealEnvoy, ReplicasConfig
from terminal import NO, YES, bold, fail, faint, observe_each, paint

sys.path.append(str(ROOT / "tests/e2e"))
import mcp_servers  # noqa: E402
from silent_client import SilentClient  # noqa: E402

REPLICAS = 3
# Of each kind: those that echo their session's id, and those that don't.
CLIENTS = 9
CALLS = 4
# Those who name a host: so many don't get the same one by chance.
CHOOSERS = 24
SERVER = "everything"
STATEFUL_SESSION = {
    "name": "envoy.filters.http.stateful_session",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
        "session_state": {
            "name": "envoy.http.stateful_session.envelope",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState",
                "header": {"name": "mcp-session-id"},
            },
        },
    },
}


def without_filter(config):
    changed = config.without_filter()
    changed.cluster["load_balancing_policy"] = {"policies": fallback_policies(config)}
    del changed.cluster["typed_extension_protocol_options"]
    return changed


def fallback_policies(config):
    policy = config.cluster["load_balancing_policy"]["policies"][0]["typed_extension_config"]["typed_config"]
    return policy["fallback_policy"]["policies"]


def with_stateful_session(config):
    changed = without_filter(config)
    changed.http_filters.insert(-1, STATEFUL_SESSION)
    return changed


COLUMNS = {"Envoy alone": without_filter, "stateful_session": with_stateful_session, "this filter": lambda config: config}


class Client(SilentClient):
    """One caller; `echoes` its session's id or not."""

    def __init__(self, port, name, echoes):
        super().__init__(port, [("x-api-key", name)])
        self.echoes = echoes
        self.session = None

    def open(self, headers=()):
        answer = self.initialize(headers=[("accept", "application/json, text/event-stream"), *headers])
        assert answer.status == 200, answer
        self.session = answer.session
        if self.echoes:
            self.headers.append(("mcp-session-id", self.session))
        self.initialized()
        return answer

    def list_tools(self, **options):
        answer = super().list_tools(**options)
        # As HTTP clients do it.
        return super().list_tools(**options) if answer.status == 307 else answer

    def is_answered(self):
        return self.list_tools().status == 200


@dataclass
class Finding:
    """What one way of doing it has come to: calls answered, of calls made."""

    echoing: list[bool] = field(default_factory=list)
    silent: list[bool] = field(default_factory=list)
    echoing_later: list[bool] = field(default_factory=list)
    silent_later: list[bool] = field(default_factory=list)
    # How many replicas the sessions were on.
    replicas: int = 0
    shows_addresses: bool = False
    lets_choose: bool = False


def addresses_in(answer, ports):
    """Whether an answer's headers tell where a replica is, as they are or in base64."""
    text = "\n".join(f"{name}: {value}" for name, value in answer.headers)
    for word in re.split("[;:]", answer.session):
        with contextlib.suppress(ValueError):
            text += base64.b64decode(word + "=" * (-len(word) % 4)).decode("latin-1")
    return any(f"127.0.0.1:{port}" in text for port in ports)


def calls(clients, count):
    return [client.is_answered() for _ in range(count) for client in clients]


def lets_choose(envoy, ports):
    """Whether clients that name a host get it, all of them."""
    before = envoy.requests_by_port()
    chosen = ports[0]
    for number in range(CHOOSERS):
        client = Client(envoy.port, f"chooser {number}", echoes=False)
        client.initialize(headers=[("accept", "application/json, text/event-stream"), *forged(chosen)])
    after = envoy.requests_by_port()
    return after[chosen] - before[chosen] == CHOOSERS


def forged(port):
    """What names a host: in this filter's header, and in the id that `stateful_session` makes."""
    address = base64.b64encode(f"127.0.0.1:{port}".encode()).decode()
    return [("x-mcp-upstream-host", f"127.0.0.1:{port}"), ("mcp-session-id", f"{address};UV:eA==")]


def observe(column, say=lambda what: None):
    found = Finding()
    with contextlib.ExitStack() as running:
        say(f"{REPLICAS} replicas, {2 * CLIENTS} clients")
        servers = [running.enter_context(mcp_servers.start(SERVER)) for _ in range(REPLICAS)]
        ports = [server.port for server in servers]
        envoy = running.enter_context(RealEnvoy(COLUMNS[column](ReplicasConfig(ports))))
        echoing = [Client(envoy.port, f"echoing {number}", echoes=True) for number in range(CLIENTS)]
        silent = [Client(envoy.port, f"silent {number}", echoes=False) for number in range(CLIENTS)]
        opened = [client.open() for client in [*echoing, *silent]]
        found.shows_addresses = any(addresses_in(answer, ports) for answer in opened)
        found.replicas = sum(count > 0 for count in envoy.requests_by_port().values())
        found.echoing = calls(echoing, CALLS)
        found.silent = calls(silent, CALLS)
        say("a replica dies")
        servers[0].process.kill()
        found.echoing_later = calls(echoing, CALLS)
        found.silent_later = calls(silent, CALLS)
        found.lets_choose = lets_choose(envoy, ports[1:])
    return found


def is_good(found):
    every = [*found.echoing, *found.silent, *found.echoing_later, *found.silent_later]
    return all(every) and found.replicas > 1 and not found.shows_addresses and not found.lets_choose


def share(answered):
    return all(answered), f"{sum(answered)} of {len(answered)}"


def yes_or_no(is_bad):
    return not is_bad, "yes" if is_bad else "no"


ROWS = {
    "clients that echo the id": lambda found: share(found.echoing),
    "clients that don't": lambda found: share(found.silent),
    "one replica died: with id": lambda found: share(found.echoing_later),
    "                  without": lambda found: share(found.silent_later),
    "replicas in use": lambda found: (found.replicas > 1, str(found.replicas)),
    "addresses shown to clients": lambda found: yes_or_no(found.shows_addresses),
    "clients can choose a host": lambda found: yes_or_no(found.lets_choose),
}


def table(findings):
    width = 18
    lines = [faint("  " + " " * 28 + "".join(column.ljust(width) for column in findings).rstrip())]
    for row, look in ROWS.items():
        cells = []
        for found in findings.values():
            good, words = look(found)
            mark = paint("32", YES) if good else paint("31", NO)
            cells.append(f"{mark} {words.ljust(width - 2)}")
        lines.append(f"  {row:28}{''.join(cells)}".rstrip())
    return lines


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    # What ends this program also ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"\n  {bold('Three replicas of a stateful server')}: calls that are answered\n", flush=True)
    findings = observe_each(COLUMNS, observe)
    print("\n" + "\n".join(table(findings)))
    if not is_good(findings["this filter"]):
        fail("Not kept on their replicas", table(findings))
    print(f"\n  {paint('32', 'Kept')}: with the filter every call found its session, or a new one.\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
