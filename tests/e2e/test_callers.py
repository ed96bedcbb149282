"""A session never reaches another caller than the one that opened it."""

import itertools

import pytest
from certificates import Authority
from issuer import Issuer
from real_envoy import EnvoyConfig, RealEnvoy
from silent_client import SilentClient

authorities = (f"host-{number}.test" for number in itertools.count())


@pytest.fixture
def authority():
    """An endpoint that no other test has used."""
    return next(authorities)


def session_of(client):
    """The session that the server saw this client in; None if it refused it for having none."""
    answer = client.list_tools()
    if answer.status == 200:
        return answer.result["session"]
    assert answer.status == 400, answer
    return None


TOKEN_A, TOKEN_B = ("authorization", "Bearer a"), ("authorization", "Bearer b")
KEY_A, KEY_B = ("x-api-key", "a"), ("x-api-key", "b")


@pytest.mark.parametrize(
    ("owner", "stranger"),
    [
        pytest.param([TOKEN_A], [TOKEN_B], id="another-token"),
        pytest.param([KEY_A], [KEY_B], id="another-key"),
        pytest.param([TOKEN_A, KEY_A], [TOKEN_A, KEY_B], id="same-token-another-key"),
        pytest.param([TOKEN_A, KEY_A], [TOKEN_B, KEY_A], id="another-token-same-key"),
        pytest.param([TOKEN_A, KEY_A], [TOKEN_A], id="the-key-missing"),
        pytest.param([TOKEN_A, KEY_A], [KEY_A], id="the-token-missing"),
        pytest.param([TOKEN_A], [TOKEN_A, KEY_A], id="a-key-beside"),
        pytest.param([TOKEN_A], [], id="no-credentials"),
        pytest.param([], [TOKEN_A], id="credentials-where-the-owner-had-none"),
        pytest.param([TOKEN_A], [("x-api-key", "Bearer a")], id="the-token-as-a-key"),
        pytest.param([TOKEN_A], [("authorization", "")], id="an-empty-token"),
        pytest.param([TOKEN_A], [("authorization", "bearer a")], id="other-spelling"),
        pytest.param([TOKEN_A], [TOKEN_A, TOKEN_B], id="two-tokens"),
        pytest.param(
            [("authorization", "ab"), ("x-api-key", "c")], [("authorization", "a"), ("x-api-key", "bc")], id="cut"
        ),
    ],
)
def test_a_stranger_does_not_reach_a_session(envoy, authority, owner, stranger):
    session = SilentClient(envoy.port, owner, authority=authority).initialize().session
    assert session_of(SilentClient(envoy.port, stranger, authority=authority)) is None
    assert session_of(SilentClient(envoy.port, owner, authority=authority)) == session


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param([], id="as-it-is"),
        pytest.param([("x-forwarded-for", "127.0.0.1")], id="x-forwarded-for"),
        pytest.param([("x-forwarded-for", "127.0.0.1, 127.0.0.1")], id="x-forwarded-for-twice"),
        pytest.param([("x-envoy-external-address", "127.0.0.1"), ("x-real-ip", "127.0.0.1")], id="other-headers"),
        pytest.param([("forwarded", "for=127.0.0.1")], id="forwarded"),
    ],
)
def test_another_address_without_credentials_does_not_reach_a_session(envoy, authority, forged):
    session = SilentClient(envoy.port, source="127.0.0.1", authority=authority).initialize().session
    assert session_of(SilentClient(envoy.port, forged, source="127.0.0.2", authority=authority)) is None
    assert session_of(SilentClient(envoy.port, source="127.0.0.1", authority=authority)) == session


def test_one_caller_may_come_from_many_addresses(envoy, authority):
    session = SilentClient(envoy.port, [TOKEN_A], source="127.0.0.3", authority=authority).initialize().session
    assert session_of(SilentClient(envoy.port, [TOKEN_A], source="127.0.0.4", authority=authority)) == session


def test_another_authority_is_another_endpoint(envoy, authority):
    here = SilentClient(envoy.port, [TOKEN_A], authority=authority)
    there = SilentClient(envoy.port, [TOKEN_A], authority=f"other.{authority}")
    session = here.initialize().session
    assert session_of(there) is None
    other = there.initialize().session
    assert (session_of(here), session_of(there)) == (session, other)


def test_callers_without_credentials_are_refused_where_the_configuration_says_so(fake_server, authority):
    settings = {"hold_request_headers": True, "caller": {"anonymous": "refuse"}}
    with RealEnvoy(EnvoyConfig(fake_server.port, settings)) as envoy:
        nobody = SilentClient(envoy.port, authority=authority)
        opened = nobody.initialize()
        assert opened.status == 200
        assert envoy.outcome(opened) == "passed_no_caller"
        refused = nobody.list_tools()
        assert refused.status == 400
        assert envoy.outcome(refused) == "passed_no_caller"

        somebody = SilentClient(envoy.port, [TOKEN_A], authority=authority)
        assert session_of(somebody) is None
        session = somebody.initialize().session
        assert session_of(somebody) == session


def test_a_verified_subject_keeps_its_session_from_token_to_token(fake_server, authority):
    issuer = Issuer()
    metadata = ["envoy.filters.http.jwt_authn", "payload", "sub"]
    config = EnvoyConfig(fake_server.port, {"hold_request_headers": True, "caller": {"metadata": metadata}})
    config.http_filters.insert(0, issuer.http_filter())
    with RealEnvoy(config) as envoy:
        alice, alice_later, bob = (
            SilentClient(envoy.port, issuer.token(subject), authority=authority)
            for subject in ("alice", "alice", "bob")
        )
        session = alice.initialize().session
        assert session_of(alice_later) == session
        assert session_of(bob) is None
        assert SilentClient(envoy.port, authority=authority).list_tools().status == 401
        assert SilentClient(envoy.port, Issuer().token("alice"), authority=authority).list_tools().status == 401


def test_a_client_certificates_uri_tells_its_callers_apart(fake_server, authority, tmp_path):
    signer = Authority()
    config = EnvoyConfig(fake_server.port, {"hold_request_headers": True})
    config.filter_chain["transport_socket"] = signer.downstream_tls()
    with RealEnvoy(config) as envoy:
        alice, alice_renewed, bob = (
            SilentClient(envoy.port, authority=authority, tls=signer.client(f"spiffe://test/{name}", tmp_path))
            for name in ("alice", "alice", "bob")
        )
        session = alice.initialize().session
        assert session_of(alice_renewed) == session
        assert session_of(bob) is None
