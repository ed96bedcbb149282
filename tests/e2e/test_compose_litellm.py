"""The compose file with LiteLLM, in a real Docker engine: tools load from a server that holds one session."""

import json

import pytest
from composed import INITIALIZE_REQUEST, Up, row
from silent_client import BOTH

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def litellm(docker_engine):
    with Up(docker_engine, "compose.litellm.yaml") as running:
        running.server_log = running.log("searxng")
        yield running


def test_litellm_lists_its_tools_each_time(litellm):
    assert litellm.exit_code == 0, litellm.said
    assert row(litellm.said, "one list") == ["✓ searxng_web_search, web_url_read"]
    assert row(litellm.said, "previews, 2 at once") == ["✓ 20/20"]
    assert row(litellm.said, "lists, 3 at once") == ["✓ 15/15"]
    assert row(litellm.said, "mcp_session.learned") == ["1"]
    assert int(row(litellm.said, "mcp_session.reused")[0]) >= 36
    assert "Already connected" not in litellm.server_log
    assert max(map(len, litellm.said.splitlines())) <= 80


def test_the_server_behind_litellm_holds_one_session(litellm):
    code = f"""
import urllib.request
headers = {{"content-type": "application/json", "accept": "{BOTH}"}}
request = urllib.request.Request("http://searxng:3000/mcp", {json.dumps(INITIALIZE_REQUEST).encode()}, headers)
urllib.request.urlopen(request, timeout=10)
"""
    refused = litellm.python("litellm", code)
    assert "500" in refused.stderr
    assert "Already connected" in litellm.log("searxng")
