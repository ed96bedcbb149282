"""What runs on which core: what is measured on one, all else on the others."""

import contextlib
import os

ALL = sorted(os.sched_getaffinity(0))
# With a single core there is nothing to be chosen.
MEASURED = set(ALL[-1:])
OTHERS = set(ALL[:-1]) or MEASURED


@contextlib.contextmanager
def on(cores):
    """What is started meanwhile runs on these cores; on any, if none are named."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or ALL)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
