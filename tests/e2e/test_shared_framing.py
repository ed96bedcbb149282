"""Bodies that grow on their way up: no byte of one request becomes part of another on a connection that they share."""

import asyncio
import random

import pytest
from parrot import Parrot, ids, in_json
from real_envoy import EnvoyConfig, RealEnvoy
from recorder import Recorder
from session_mates import encode, keys, mates
from tokens import original_of, restored

KIB = 1 << 10
# What a token adds to an id of a few digits, and a bit more.
GROWTH = 40
SIZES = [size + change for size in (64 * KIB, 1024 * KIB) for change in (-GROWTH, -1, 0, 1, GROWTH)]
JSON_FORM = ("x-form", "json")


@pytest.fixture(scope="module")
def server():
    with Parrot() as running:
        yield running


@pytest.fixture(scope="module", params=[True, False], ids=["headers-held", "headers-not-held"])
def settings(request):
    return {"hold_request_headers": request.param}


@pytest.fixture(scope="module")
def recorder(server, settings):
    with Recorder(server.port) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(recorder, settings):
    """Envoy whose workers have one connection to the server each, which all their requests have to share."""
    config = EnvoyConfig(recorder.port, settings)
    cluster = config.tree["static_resources"]["clusters"][0]
    cluster["circuit_breakers"] = {"thresholds": [{"max_connections": 1}]}
    with RealEnvoy(config) as running:
        yield running


def body_of(number, size, id_first):
    """A request of this many bytes, or of the fewest that it needs."""
    id = b'"id":%d,' % number
    start, end = (b'{"jsonrpc":"2.0",', b'"x":1}')
    start, end = (start + id, end) if id_first else (start, id + end)
    start += b'"method":"tools/call","params":{"text":"'
    end = b'"},' + end
    return start + b"a" * (size - len(start) - len(end)) + end


@pytest.fixture
def key():
    return next(keys)


def assert_each_arrived_once(recorder, key, sent):
    """All bytes upstream are requests of this form, and this caller's are these bodies with tokens for their ids."""
    assert len(recorder.connections) <= 2, "one for each worker"
    arrived = []
    for request, answer in recorder.exchanges():
        assert request.first_line == "POST /mcp HTTP/1.1"
        assert answer.first_line.split(" ")[1] in ("200", "202")
        assert len(request.all("content-length") + request.all("transfer-encoding")) == 1
        if request.header("x-api-key") == key and b'"method":"tools/call"' in request.body:
            [id] = ids(request.body)
            assert original_of(id) is not None, id
            arrived.append(restored(request.body))
    same = sorted(arrived) == sorted(sent)
    assert same, f"{sorted(map(len, arrived))}, not {sorted(map(len, sent))}"


def test_pipelined_requests_stay_apart(envoy, recorder, key):
    """Many requests are written at once, before any answer is read."""
    shape = random.Random(1)
    sent = [body_of(number, shape.choice([0, 100, 1000, 20_000]), shape.random() < 0.5) for number in range(200)]
    pieces = [shape.choice([None, 1, 50, 5000]) for _ in sent]

    async def pipeline():
        async with mates(envoy.port, key, 1) as [client]:
            headers = [*client.headers(), JSON_FORM]
            client.writer.write(b"".join(encode(headers, body, piece) for body, piece in zip(sent, pieces)))
            return [(await client.receive()).body for _ in sent]

    answers = asyncio.run(pipeline())
    assert answers == [in_json([b"%d" % number]) for number in range(len(sent))]
    assert_each_arrived_once(recorder, key, sent)


@pytest.mark.parametrize("id_first", [True, False], ids=["id-first", "id-last"])
@pytest.mark.parametrize("piece", [None, 16 * KIB], ids=["content-length", "chunked"])
def test_sizes_around_the_hosts_buffers_stay_apart(envoy, recorder, key, id_first, piece):
    sent = [body_of(number, size, id_first) for number, size in enumerate(SIZES)]

    async def send_all():
        async with mates(envoy.port, key, 1) as [client]:
            return [(await client.post(body, [JSON_FORM], piece=piece)).body for body in sent]

    assert asyncio.run(send_all()) == [in_json([b"%d" % number]) for number in range(len(sent))]
    assert_each_arrived_once(recorder, key, sent)


def test_many_clients_over_one_connection_for_each_worker_stay_apart(envoy, recorder, key):
    """All use the same ids. The text of each is unlike the others'."""
    sent = []

    async def client_sends(client, shape):
        for number in range(40):
            size = shape.choice([0, 500, 64 * KIB, 64 * KIB - shape.randrange(GROWTH)])
            body = body_of(number, size, id_first=shape.random() < 0.5).replace(b'"x":1', b'"x":%d' % len(sent))
            sent.append(body)
            answer = await client.post(body, [JSON_FORM], piece=shape.choice([None, 4000]))
            assert answer.body == in_json([b"%d" % number])

    async def all_send():
        async with mates(envoy.port, key, 8) as clients:
            await asyncio.gather(*(client_sends(client, random.Random(nr)) for nr, client in enumerate(clients)))

    asyncio.run(all_send())
    assert_each_arrived_once(recorder, key, sent)
