"""In a shared session every id comes back as it was spelled, byte for byte, however requests and answers arrive."""

import asyncio
import json
import socket

import pytest
from h2_client import post_with_trailers
from parrot import SERVERS_OWN, Parrot, ids, in_events, in_json, in_odd_events
from real_envoy import EnvoyConfig, RealEnvoy
from session_mates import Mate, encode, keys, mates
from tokens import original_of, restored

IDS = {
    "1": b"1",
    "string-1": b'"1"',
    "1.0": b"1.0",
    "minus-0": b"-0",
    "1e2": b"1E+2",
    "empty": b'""',
    "300-characters": b'"' + b"x" * 300 + b'"',
    "unicode": '"é\U0001f600"'.encode(),
    "escapes": rb'"\u00E9\"\\\/\n\ud83d\ude00"',
    "like-a-token": b'"mcpsf~0000000000000001~1"',
}
LONG = b"a" * 5_000_000


@pytest.fixture(scope="module")
def server():
    with Parrot() as running:
        yield running


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def envoy(server, request):
    with RealEnvoy(EnvoyConfig(server.port, {"hold_request_headers": request.param})) as running:
        yield running


@pytest.fixture
def client(envoy):
    """One that names the session, which another has made a shared one."""
    key = next(keys)

    async def open_session():
        async with mates(envoy.port, key, 1) as [mate]:
            opened = await mate.post(b'{"id":0,"jsonrpc":"2.0","method":"tools/list"}')
            return json.loads(opened.body)["result"]["session"]

    return Mate(envoy.port, key, asyncio.run(open_session()))


def ask(client, body, form="json", **framing):
    async def once():
        async with client:
            return await client.post(body, [("x-form", form)], **framing)

    return asyncio.run(once())


def http_2(headers):
    return [(":authority" if name == "host" else name, value) for name, value in headers]


def assert_went_up_translated(server, body, originals):
    """The last request is this body, with a token for each of its ids."""
    seen = server.last.body
    same = restored(seen) == body
    assert same, f"{seen[:200]} and {len(seen)} bytes, not {body[:200]} and {len(body)}"
    assert [original_of(token) for token in ids(seen)] == originals
    assert len(server.last.all("content-length") + server.last.all("transfer-encoding")) == 1


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
@pytest.mark.parametrize("form", ["json", "events"])
def test_an_id_comes_back_as_it_was_spelled(server, client, form, id):
    answer_of = {"json": in_json, "events": in_events}[form]
    for body in [
        b'{"jsonrpc":"2.0","id":' + id + b',"method":"tools/list","params":{}}',
        b'{"method":"tools/list","params":{"a":[{}]},"jsonrpc":"2.0","id":' + id + b"}",
        b' { "id" : ' + id + b' , "params" : {} , "jsonrpc" : "2.0" , "method" : "tools/list" } \r\n',
    ]:
        for piece in [None, len(body), 7]:
            answer = ask(client, body, form, piece=piece)
            assert answer.body == answer_of([id])
            assert_went_up_translated(server, body, [id])


@pytest.mark.parametrize("form", ["json", "events"])
def test_each_message_of_a_batch_gets_its_own_id_back(server, client, form):
    answer_of = {"json": in_json, "events": in_events}[form]
    originals = [b"1", b'"1"', b"1.0", b"1", b'"\\u0031"']
    requests = [b'{"jsonrpc":"2.0","id":' + id + b',"method":"tools/list"}' for id in originals]
    body = b"[" + b", ".join([*requests, b'{"jsonrpc":"2.0","method":"notifications/message"}']) + b"]"
    assert ask(client, body, form).body == answer_of(originals)
    assert_went_up_translated(server, body, originals)


@pytest.mark.parametrize("piece", [None, 10_000], ids=["content-length", "chunked"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","method":"tools/call","params":{"a":"' + LONG + b'"},"id":"x"}',
        b'{"jsonrpc":"2.0","params":{"a":"' + LONG + b'"},"method":"tools/call","id":"x"}',
        b'{"jsonrpc":"2.0","params":{"a":"' + LONG + b'"},"id":"x","method":"tools/call"}',
    ],
    ids=["id-last", "method-and-id-last", "method-last"],
)
def test_an_id_behind_5_mb_is_translated(server, client, body, piece):
    assert ask(client, body, piece=piece).body == in_json([b'"x"'])
    assert_went_up_translated(server, body, [b'"x"'])


def test_an_id_that_would_wait_for_its_method_too_long_goes_up_and_comes_back_as_it_is(server, client):
    body = b'{"jsonrpc":"2.0","id":"x","params":{"a":"' + LONG + b'"},"method":"tools/call"}'
    assert ask(client, body).body == in_json([b'"x"'])
    assert server.last.body == body


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_request_may_be_cut_anywhere(envoy, server, client, framing):
    body = b'{"id":"\\u0031","method":"tools/list","id":1.50}'
    for cut in range(1, len(body)):
        whole = encode([*client.headers(), ("x-form", "events")], body, piece=cut if framing == "chunked" else None)
        at = whole.index(body[:cut]) + cut
        with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as connection:
            envoy.send_in_pieces(connection, [whole[:at], whole[at:]])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert_went_up_translated(server, body, [b'"\\u0031"', b"1.50"])


def test_a_request_may_come_byte_by_byte(envoy, server, client):
    body = b'{"method":"tools/list","params":{},"id":"a\\"b"}'
    head, _, _ = encode(client.headers(), body).partition(body)
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=10) as connection:
        envoy.send_in_pieces(connection, [head, *(body[at : at + 1] for at in range(len(body)))])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert_went_up_translated(server, body, [b'"a\\"b"'])


@pytest.mark.parametrize(
    "body",
    [
        b'{"method":"tools/list","jsonrpc":"2.0","id":"x"}',
        b'{"id":"x","jsonrpc":"2.0","params":{"a":"' + b"a" * 9000 + b'"},"method":"tools/list"}',
    ],
    ids=["id-last", "method-last"],
)
def test_http_2_trailers_may_end_a_request(envoy, server, client, body):
    headers = [*http_2(client.headers()), ("x-form", "events")]
    assert post_with_trailers(envoy.port, headers, body).body == in_events([b'"x"'])
    assert_went_up_translated(server, body, [b'"x"'])


@pytest.mark.parametrize("body", [b'{"id":"x","method":"tools/l', b'{"method":"tools/list","id":"x', b'{"id":12'])
def test_http_2_trailers_amid_a_message_leave_no_more_than_its_beginning(envoy, server, client, body):
    # Nothing can be added to a body once its trailers have come: bytes that waited for the rest of an id are gone.
    before = len(server.requests)
    assert post_with_trailers(envoy.port, http_2(client.headers()), body).status == 400
    # The filter's ping may follow: is the session to blame?
    assert body.startswith(restored(server.requests[before].body))


@pytest.mark.parametrize("form", ["json", "events"])
def test_a_client_that_likes_gzip_gets_a_readable_answer_with_its_id(server, client, form):
    """The filter can't look into compressed answers, so it asks for plain ones."""

    async def once():
        async with client:
            wish = [("x-form", form), ("accept-encoding", "gzip, deflate, br")]
            return await client.post(b'{"method":"tools/list","id":1}', wish)

    answer = asyncio.run(once())
    assert answer.header("content-encoding") is None
    assert answer.body == {"json": in_json, "events": in_events}[form]([b"1"])
    assert server.last.header("accept-encoding") == "identity"


def test_what_the_server_asks_of_the_client_and_the_answer_to_it_keep_their_id(server, client):
    answer = ask(client, b'{"method":"tools/list","jsonrpc":"2.0","id":7}', "odd-events")
    assert answer.body == in_odd_events([b"7"])
    assert answer.body.count(SERVERS_OWN) == 1
    for body in [b'{"jsonrpc":"2.0","id":7,"result":{"method":"x"}}', b'{"error":{"code":1,"message":""},"id":7}']:
        ask(client, body)
        assert server.last.body == body
