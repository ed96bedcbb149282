"""The official clients and a server that is killed and started 20 times: straight at it, and through Envoy.

Ends with an error unless every call that was made through Envoy while the server was up is answered.
"""

import argparse
import contextlib
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from real_envoy import EnvoyConfig, RealEnvoy
from restart_scene import CallingClient, RestartedServer
from terminal import NO, YES, bold, fail, faint, observe_each, paint

RESTARTS = 20
# In each life of a server.
CALLS = 3
# Each SDK's client, with a server of the same SDK.
SERVERS = {"Python": "python-sse", "TypeScript": "typescript-sse"}
WAYS = ["straight", "through Envoy"]


@dataclass
class Finding:
    """How one client did."""

    made: int = 0
    answered: int = 0
    # Restarts after which every call was answered, until one was not.
    survived: int = 0
    ran_twice: int = 0
    # The filter's counter.
    recovered: int | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def failed(self):
        return self.made - self.answered

    def note(self, life, failures):
        self.made += len(failures)
        failed = [failure for failure in failures if failure is not None]
        self.answered += len(failures) - len(failed)
        self.failures += failed
        if life == self.survived + 1 and not failed:
            self.survived = life


def calls_of_a_life(client, way, life):
    return [client.call(f"{way} {life}.{number}") for number in range(CALLS)]


def observe(language, restarts=RESTARTS, say=lambda what: None):
    """Both ways of one SDK's client, side by side in front of one server."""
    findings = {way: Finding() for way in WAYS}
    with contextlib.ExitStack() as running:
        server = running.enter_context(RestartedServer(SERVERS[language]))
        # As envoy/envoy.yaml has it.
        envoy = running.enter_context(RealEnvoy(EnvoyConfig(server.port)))
        ports = dict(zip(WAYS, [server.port, envoy.port], strict=True))
        clients = {way: running.enter_context(CallingClient(language, port)) for way, port in ports.items()}
        for client in clients.values():
            client.wait_until_ready()
        pool = running.enter_context(ThreadPoolExecutor(len(WAYS)))
        for life in range(restarts + 1):
            if life:
                server.restart()
            called = {way: pool.submit(calls_of_a_life, client, way, life) for way, client in clients.items()}
            for way, failures in called.items():
                findings[way].note(life, failures.result())
            if life % 5 == 0:
                say(f"restart {life} of {restarts}" if life else "the first calls are made")
        findings[WAYS[1]].recovered = envoy.counter("recovered")
    counted = server.counted()
    for way, found in findings.items():
        ran = [message for message in counted if message.startswith(way)]
        found.ran_twice = len(ran) - len(set(ran))
    return findings


def is_good(found, restarts=RESTARTS):
    calls = (restarts + 1) * CALLS
    is_whole = found.made == found.answered == calls and found.survived == restarts
    return is_whole and found.ran_twice == 0 and (found.recovered or 0) >= restarts


# Each row: whether it is as it should be, if that can be said, and how it is.
ROWS = {
    "calls made": lambda found: (None, str(found.made)),
    "answered": lambda found: (found.failed == 0, str(found.answered)),
    "failed": lambda found: (found.failed == 0, str(found.failed)),
    "ran twice": lambda found: (found.ran_twice == 0, str(found.ran_twice)),
    "restarts survived": lambda found: (found.survived == RESTARTS, f"{found.survived} of {RESTARTS}"),
    "counted as recovered": lambda found: (None, "-" if found.recovered is None else str(found.recovered)),
}


def cell(good, words, width):
    mark = " " if good is None else paint("32", YES) if good else paint("31", NO)
    return f"{mark} {words.ljust(width - 2)}"


def table(findings):
    """The table's lines; `findings` has those of both ways for each client."""
    widths = [11, 15] * len(findings)
    heads = [*zip(WAYS * len(findings), widths, strict=True)]
    lines = [
        "  " + " " * 25 + "".join(f"{language + ' client':26}" for language in findings).rstrip(),
        faint("  " + " " * 25 + "".join(way.ljust(width) for way, width in heads).rstrip()),
    ]
    founds = [found for ways in findings.values() for found in ways.values()]
    for row, look in ROWS.items():
        cells = [cell(*look(found), width) for found, width in zip(founds, widths, strict=True)]
        lines.append(f"  {row:25}{''.join(cells)}".rstrip())
    return lines


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    # What ends this program also ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"\n  {bold(f'A server that is killed and started {RESTARTS} times')}, and the official clients\n", flush=True)
    findings = observe_each(SERVERS, lambda language, say: observe(language, say=say))
    print("\n" + "\n".join(table(findings)))
    for ways in findings.values():
        if first := ways[WAYS[0]].failures[:1]:
            print(faint(f"\n  without the filter: {first[0]}"[:80]))
            break
    through = [ways[WAYS[1]] for ways in findings.values()]
    if not all(map(is_good, through)):
        failures = [failure for found in through for failure in found.failures][:3]
        fail("Not recovered", failures)
    print(f"\n  {paint('32', 'Recovered')}: with the filter no client saw any of {RESTARTS} restarts.\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
