"""Tokens for one test run."""

import itertools
import json

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class Issuer:
    """Signs tokens, and tells Envoy's own jwt_authn how to check them."""

    def __init__(self, name="issuer"):
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._count = itertools.count()

    def token(self, subject):
        """Another token at each call."""
        claims = {"iss": self.name, "sub": subject, "jti": str(next(self._count))}
        return [("authorization", "Bearer " + jwt.encode(claims, self._key, "ES256"))]

    def jwks(self):
        key = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [key]})

    def http_filter(self):
        provider = {
            "issuer": self.name,
            "payload_in_metadata": "payload",
            "forward": True,
            "local_jwks": {"inline_string": self.jwks()},
        }
        return {
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"issuer": provider},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
            },
        }
