"""What the ways are called that others are compared with."""

ALONE = "Envoy alone"
# The same once more, to see how far that differs from itself.
CONTROL = f"{ALONE}, again"
EMPTY = "an empty filter"
# The hostcalls that none can do without, and nothing else.
FLOOR = "the hostcalls alone"
LUA = "a Lua script"
NATIVE = "envoy.filters.http.mcp"
EXT_PROC = "an ext_proc service"
LEFT_ALONE = "repaired"
TRANSLATED = "repaired, ids translated"
