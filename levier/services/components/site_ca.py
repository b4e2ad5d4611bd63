"""The site's own certificate authority: made once, kept in the secret store; clients are given its certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from levier.domain.errors import InvalidRequest

AUTHORITY = "site.ca"
"""The secret that holds the authority: `certificate` and `key` in PEM."""
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 825
_SKEW = timedelta(hours=1)
"""Hosts whose clock is behind accept a new certificate too."""


class MakesSecrets(Protocol):
    """A secret store in which a secret can be made once."""

    def ensure(self, name: str, make: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """The values of the secret, which are those of the one `make` that was called if there was none."""
        ...


def authority_certificate(store: MakesSecrets) -> str:
    """The authority's certificate in PEM: what clients trust. Safe to repeat; the first call makes the authority."""
    return ensure_authority(store)["certificate"]


def ensure_authority(store: MakesSecrets) -> Mapping[str, str]:
    """The authority, `certificate` and `key` in PEM. Safe to repeat; the first call makes it."""
    return store.ensure(AUTHORITY, _new_authority)


def server_certificate(authority: Mapping[str, str], hosts: Sequence[str]) -> str:
    """A new key, its certificate for `hosts` (names and addresses) and the authority's, in PEM, as haproxy reads them.

    Not the same twice. Raises InvalidRequest without hosts.
    """
    if not hosts:
        raise InvalidRequest(
            "a certificate needs the name or address of the public endpoints", hint="set openstack.public_host"
        )
    issuer = x509.load_pem_x509_certificate(authority["certificate"].encode())
    signer = load_pem_private_key(authority["key"].encode(), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise InvalidRequest(f"the key of {AUTHORITY} is of another kind", hint=f"levier secret delete {AUTHORITY}")
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([_general_name(each) for each in hosts])
    builder = _builder(key, subject=_name(hosts[0]), issuer=issuer.subject, days=_SERVER_DAYS)
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return _pem_key(key) + certificate.public_bytes(Encoding.PEM).decode() + authority["certificate"]


def _new_authority() -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Levier site authority")
    builder = _builder(key, subject=name, issuer=name, days=_AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return {"certificate": certificate.public_bytes(Encoding.PEM).decode(), "key": _pem_key(key)}


def _builder(
    key: ec.EllipticCurvePrivateKey, *, subject: x509.Name, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _SKEW,
        not_valid_after=now + timedelta(days=days),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
