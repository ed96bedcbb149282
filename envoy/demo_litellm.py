"""LiteLLM in front of an mcp-searxng that holds one session at a time: without the filter, and with it.

Ends with an error if the filter did not do what README.md says of it.
"""

import signal
import sys

from litellm_scene import (
    LIST_ROUNDS,
    LISTS_AT_ONCE,
    LITELLM,
    MODES,
    PREVIEW_ROUNDS,
    PREVIEWS_AT_ONCE,
    SEARXNG,
    WITHOUT_FILTER,
    observe,
)
from terminal import NO, YES, bold, fail, faint, observe_each, paint

COLUMNS = {"no filter": WITHOUT_FILTER, "reuse": MODES["reuse"], "queue": MODES["queue"]}
# What nobody expects: a queue gives sessions their turn, and a request without a session stays without.
NOT_EXPECTED = {("queue", "a list by curl, without id")}
PREVIEWS, LISTS = PREVIEW_ROUNDS * PREVIEWS_AT_ONCE, LIST_ROUNDS * LISTS_AT_ONCE


def count(tools):
    return tools > 0, f"{tools} tools" if tools else "no tools"


def share(answered, of):
    return answered == of, f"{answered}/{of}"


def answer(bare):
    return bare.status == 200 and bare.tools > 0, f"{bare.status}, {count(bare.tools)[1]}"


# Each row: whether it is as it should be, and how it is.
ROWS = {
    "one list": lambda found: count(found.listed),
    f"previews, {PREVIEWS_AT_ONCE} at once": lambda found: share(found.previews, PREVIEWS),
    f"lists, {LISTS_AT_ONCE} at once": lambda found: share(found.lists, LISTS),
    "after an abandoned session": lambda found: count(found.after_abandoned),
    "a list by curl, without id": lambda found: answer(found.bare),
    '"Already connected" lines': lambda found: (found.already_connected == 0, str(found.already_connected)),
}


def cell(good, words, expected=True, width=17):
    mark = paint("32", YES) if good else paint("31", NO) if expected else "-"
    return f"{mark} {words.ljust(width - 2)}"


def table(findings):
    """The table's lines, and whether the filter's columns are as they have to be."""
    lines = [faint(f"  {'':29}" + "".join(column.ljust(17) for column in findings).rstrip())]
    failures = []
    for row, look in ROWS.items():
        cells = []
        for column, found in findings.items():
            good, words = look(found)
            expected = (column, row) not in NOT_EXPECTED
            cells.append(cell(good, words, expected))
            if not good and expected and column != "no filter":
                failures.append(f"{column}: {row}")
        lines.append(f"  {row:29}{''.join(cells)}".rstrip())
    return lines, failures


def main():
    # What ends this program also ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    server, _, version = SEARXNG.rpartition("-")
    print(f"\n  {bold(f'LiteLLM {LITELLM} -> Envoy -> {server} {version}')}\n", flush=True)
    findings = observe_each(COLUMNS, lambda column, say: observe(COLUMNS[column], say))
    lines, failures = table(findings)
    print("\n" + "\n".join(lines))
    if failures:
        fail("Not repaired", failures)
    print(f"\n  {paint('32', 'Repaired')}: with the filter LiteLLM has its tools each time.\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
