"""The site's authority, and certificates that an operator brings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from levier.domain.errors import InvalidRequest
from levier.services.components.site_ca import (
    authority_certificate,
    check_server_certificate,
    ensure_authority,
    is_signed_by,
    server_certificate,
    still_fits,
)
from levier.services.secrets import SecretStore


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets")


def from_elsewhere(host: str, *, days: int = 90) -> str:
    """Key and certificate as an operator gets them from a public authority, here signed by itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    clear = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (clear + certificate.public_bytes(Encoding.PEM)).decode()


def test_own_certificates_are_the_authoritys_and_fit_their_hosts(store: SecretStore) -> None:
    pem = server_certificate(ensure_authority(store), ["10.77.0.10", "cloud.example"])
    assert is_signed_by(pem, authority_certificate(store))
    check_server_certificate(pem, "10.77.0.10")
    assert still_fits(pem, ["10.77.0.10", "cloud.example"])
    assert not still_fits(pem, ["10.77.0.11"]), "the host has another address by now"


def test_an_operators_certificate_is_not_the_authoritys(store: SecretStore) -> None:
    pem = from_elsewhere("*.example")
    assert not is_signed_by(pem, authority_certificate(store))
    check_server_certificate(pem, "cloud.example")
    assert not still_fits(from_elsewhere("cloud.example", days=20), ["cloud.example"]), "it ends within a month"


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("no certificate", "cannot be read"),
        (from_elsewhere("cloud.example", days=-2), "is valid from"),
        (from_elsewhere("other.example"), "is not made out to cloud.example"),
        (from_elsewhere("cloud.example").partition("-----BEGIN CERTIFICATE")[0], "cannot be read"),
        ("-----BEGIN CERT" + from_elsewhere("cloud.example").partition("-----BEGIN CERT")[2], "holds no private key"),
        (
            from_elsewhere("cloud.example").partition("-----BEGIN CERT")[0]
            + "-----BEGIN CERT"
            + from_elsewhere("cloud.example").partition("-----BEGIN CERT")[2],
            "its key is not that of",
        ),
    ],
)
def test_a_certificate_of_no_use_is_refused_with_the_reason(pem: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        check_server_certificate(pem, "cloud.example")
    assert "levier secret set haproxy.certificate" in refused.value.hint
