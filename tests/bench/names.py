"""What the ways are called that others are compared with."""

ALONE = "Envoy alone"
# The same once more, to see how far that differs from itself.
CONTROL = f"{ALONE}, again"
EMPTY = "an empty filter"
LEFT_ALONE = "repaired"
TRANSLATED = "repaired, ids translated"
