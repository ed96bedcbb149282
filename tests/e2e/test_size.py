"""What `make size` says of the module adds up."""

import sys

import pytest
from processes import ROOT

sys.path.append(str(ROOT / "tests/bench"))
import size  # noqa: E402

LINKED = ROOT / "target/wasm32-wasip1/release/mcp_session_filter.wasm"
SHIPPED = ROOT / "target/mcp_session_filter.wasm"


@pytest.mark.parametrize("path", [LINKED, SHIPPED], ids=lambda path: path.parent.name)
def test_sections_and_their_lengths_are_all_that_is_in_a_module(path):
    module = path.read_bytes()
    sizes = size.section_sizes(module)
    # Eight bytes begin a module; each section has a number, and a length of up to five bytes.
    around = 8 + 6 * len(size.sections_of(module))
    assert sum(sizes.values()) <= len(module) <= sum(sizes.values()) + around
    assert sizes["code"] > len(module) / 2


def test_all_code_comes_from_somewhere_and_most_of_it_is_known():
    module = LINKED.read_bytes()
    functions = size.function_sizes(module)
    parts = size.code_by_origin(module)
    assert sum(parts.values()) == sum(bytes for _, bytes in functions)
    assert parts["src/exchange.rs"] > 0 and parts["core"] > 0
    assert parts["others, small ones together"] < sum(parts.values()) / 5


@pytest.mark.parametrize(
    ("symbol", "origin"),
    [
        ("_ZN18mcp_session_filter6stream6Stream4wake17hfe9cd387e4a53bcfE", "src/stream.rs"),
        ("_ZN84_$LT$mcp_session_filter..filter..Root$u20$as$u20$proxy_wasm..traits..Context$GT$4doneE", "src/filter.rs"),
        ("_ZN6blake214Blake2sVarCore8compress17h73bd257631e48da7E", "blake2"),
        ("_RINvNtNtCsdHhIpgkcIfN_4core3fmt5float32float_to_decimal_common_shortestdEB6_", "core"),
        ("proxy_on_tick", "proxy_wasm"),
        ("dlmalloc", "others"),
        ("", "others"),
    ],
)
def test_a_symbol_counts_for_the_crate_or_file_that_it_names_first(symbol, origin):
    assert size.origin(symbol) == origin
