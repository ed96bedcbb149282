"""Colours and marks, where the terminal has them."""

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
