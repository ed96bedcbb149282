"""What is in the module: its sections, and its code by the crate, and the file of this one, that it comes from.

Code is counted before names are taken off, by `make size`; generic code counts for what it is made for.
"""

import re
import sys
from collections import Counter
from pathlib import Path

OURS = "mcp_session_filter"
SECTIONS = {
    1: "types",
    2: "imports",
    3: "functions",
    4: "tables",
    5: "memories",
    6: "globals",
    7: "exports",
    9: "elements",
    10: "code",
    11: "data",
    12: "data count",
}
CUSTOM, IMPORTS, CODE = 0, 2, 10
FUNCTION_NAMES = 1
# What is smaller is put together.
LEAST = 4096


class Reader:
    """Bytes of a module from the front (WebAssembly Core Specification, Binary Format)."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def number(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bytes(self):
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at]

    def sections(self):
        """Each section's number and content."""
        while self.at < len(self.data):
            self.at += 1
            yield self.data[self.at - 1], self.bytes()


def sections_of(module):
    reader = Reader(module)
    reader.at = len(b"\0asm\1\0\0\0")
    return list(reader.sections())


def section_sizes(module):
    sizes = Counter()
    for number, content in sections_of(module):
        name = Reader(content).bytes().decode() if number == CUSTOM else SECTIONS.get(number, str(number))
        sizes[name] += len(content)
    return sizes


def function_sizes(module):
    """The name and the size of each function of the module's own."""
    sections = sections_of(module)
    imported, sizes, names = 0, [], {}
    for number, content in sections:
        reader = Reader(content)
        if number == IMPORTS:
            # All imports are functions: a module, a name, a kind and a type.
            imported = reader.number()
        elif number == CODE:
            sizes = [len(reader.bytes()) for _ in range(reader.number())]
        elif number == CUSTOM and reader.bytes() == b"name":
            names = function_names(content[reader.at :])
    return [(names.get(imported + index, ""), size) for index, size in enumerate(sizes)]


def function_names(content):
    for number, names in Reader(content).sections():
        if number == FUNCTION_NAMES:
            reader = Reader(names)
            return {reader.number(): reader.bytes().decode() for _ in range(reader.number())}
    return {}


def origin(name):
    """The crate that a function's symbol names first, and of this crate the file."""
    if OURS in name:
        found = re.search(OURS + r"(?:\.\.|\d+)([a-z_]+)", name)
        return f"src/{found[1]}.rs" if found else "src/lib.rs"
    if path := re.match(r"_ZN(\d+)", name):
        # The first part of its path: a crate, or "<a type as a trait>".
        first = name[path.end() :][: int(path[1])]
        found = re.search(r"(?:^|\$LT\$)&?([a-z][a-z0-9_]*)(?:\.\.|$)", first)
        return found[1] if found else "others"
    if name.startswith("_R"):
        found = re.search(r"Cs[0-9A-Za-z]+_(\d+)(\w+)", name)
        return found[2].lstrip("_")[: int(found[1])] if found else "others"
    return "proxy_wasm" if name.startswith("proxy_") else "others"


def code_by_origin(module):
    sizes = Counter()
    for name, size in function_sizes(module):
        sizes[origin(name)] += size
    small = sum(size for size in sizes.values() if size < LEAST)
    kept = Counter({name: size for name, size in sizes.items() if size >= LEAST})
    kept["others, small ones together"] += small + kept.pop("others", 0)
    return kept


def table(title, sizes):
    print(f"\n  {title}\n")
    for name, size in sizes.most_common():
        print(f"  {size:>9,}  {name}")


def main():
    linked, shipped = (Path(path).read_bytes() for path in sys.argv[1:3])
    table(f"As shipped: {len(shipped):,} bytes, by section", section_sizes(shipped))
    table(f"As linked: {len(linked):,} bytes, its code by where it comes from", code_by_origin(linked))
    print()


if __name__ == "__main__":
    main()
