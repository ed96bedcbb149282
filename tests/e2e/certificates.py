"""Certificates for TLS clients, made for one test run."""

import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """Signs a server's and its clients' certificates."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])
        may_sign = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._sign(self._name, self._key.public_key(), may_sign)

    def _sign(self, subject, public_key, extension):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(hours=1),
        )
        signed = builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())
        return signed.public_bytes(PEM).decode()

    def issue(self, name):
        """A new certificate for a URI or an address, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([]), key.public_key(), x509.SubjectAlternativeName([name]))
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return certificate, plain.decode()

    def downstream_tls(self):
        """Envoy's transport socket that asks for a client's certificate."""
        certificate, key = self.issue(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": True,
                "common_tls_context": {
                    "tls_certificates": [
                        {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
                    ],
                    "validation_context": {"trusted_ca": {"inline_string": self.certificate}},
                },
            },
        }

    def client(self, uri, folder):
        """What a client with a new certificate for this URI connects with."""
        certificate, key = self.issue(x509.UniformResourceIdentifier(uri))
        (folder / "certificate.pem").write_text(certificate + key)
        context = ssl.create_default_context(cadata=self.certificate)
        context.load_cert_chain(folder / "certificate.pem")
        return context
