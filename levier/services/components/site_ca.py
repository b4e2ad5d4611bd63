"""The site's own certificate authority: made once, kept in the secret store; clients are given its certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
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
_RENEW_BEFORE = timedelta(days=30)
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


def is_signed_by(pem: str, authority: str) -> bool:
    """Whether the first certificate in `pem` was issued by the `authority` in PEM. Pure."""
    try:
        _leaf(pem).verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def still_fits(pem: str, hosts: Sequence[str]) -> bool:
    """Whether the first certificate in `pem` is for all `hosts` and serves for another month."""
    certificate = _leaf(pem)
    return all(_covers(certificate, host) for host in hosts) and certificate.not_valid_after_utc > (
        datetime.now(UTC) + _RENEW_BEFORE
    )


def check_server_certificate(pem: str, host: str | None) -> None:
    """`pem` holds a key, its certificate, which is valid now, and for `host` when one is given. Pure.

    Raises InvalidRequest with the first thing that is wrong.
    """
    certificate, now = _leaf(pem), datetime.now(UTC)
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise _unusable(f"holds no private key in clear PEM: {error}") from error
    if key.public_key() != certificate.public_key():
        raise _unusable("its key is not that of its first certificate")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise _unusable(
            f"is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    if host is not None and not _covers(certificate, host):
        raise _unusable(f"is not made out to {host}")


def _unusable(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the certificate of the public endpoints {why}",
        hint="give another: levier secret set haproxy.certificate; or delete it, and Levier makes one",
    )


def _leaf(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem.encode())[0]
    except ValueError as error:
        raise _unusable(f"cannot be read: {error}") from error


def _covers(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    wanted = _general_name(host)
    if isinstance(wanted, x509.IPAddress):
        return wanted.value in names.get_values_for_type(x509.IPAddress)
    offered = names.get_values_for_type(x509.DNSName)
    return host in offered or f"*.{host.partition('.')[2]}" in offered


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
