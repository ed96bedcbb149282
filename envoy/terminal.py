"""What the demos print: colours and marks where the terminal has them, progress, and how they fail."""

import os
import sys

YES, NO = ("✓", "✗") if sys.stdout.encoding.lower() == "utf-8" else ("+", "x")
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(style, text):
    return f"\x1b[{style}m{text}\x1b[0m" if COLOURED else text


def bold(text):
    return paint("1", text)


def faint(text):
    return paint("2", text)


def observe_each(columns, observe):
    """What `observe(column, say)` finds for each column, and its progress as it goes; ends if something didn't start."""
    findings = {}
    for column in columns:

        def say(what, name=column):
            print(faint(f"  {name}: {what}"), flush=True)

        try:
            findings[column] = observe(column, say)
        except RuntimeError as failure:
            sys.exit("\n".join([f"\n{column}: it did not start", *str(failure).splitlines()[-8:]]))
    return findings


def fail(heading, failures):
    print("\n".join([f"\n  {paint('31', heading)}:", *(f"  - {failure}" for failure in failures), ""]))
    sys.exit(1)
