"""What the search for secrets on a real cloud looks for: a line that is secret, and stands in JSON as it is."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from levier.services.components.site_ca import ensure_authority, server_certificate
from levier.services.secrets import SecretStore
from tests.integration.cloud.seen_secrets import needle, needles


def test_a_key_and_its_certificate_give_a_line_of_the_key_only(tmp_path: Path) -> None:
    authority = ensure_authority(SecretStore(tmp_path / "secrets"))
    pem = server_certificate(authority, ["cloud.example"])
    for text in (pem, authority["certificate"] + pem):
        found = needle(text)
        assert found in pem.split("-----END", 1)[0]
        assert len(found) > 40
        assert found in json.dumps({"content": text})


def test_the_line_of_a_key_is_not_one_that_keys_begin_with() -> None:
    keys = (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048))
    for key in keys:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        assert needle(pem) != pem.splitlines()[1]
    openssh = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert needle(openssh.decode()) in openssh.decode()


def test_what_is_public_or_short_is_not_looked_for() -> None:
    secrets = {"a password": "x" * 32, "b public": "y" * 32, "c password": "short", "d key": "z" * 20 + "\n"}
    assert needles(secrets) == {"x" * 32: "a password", "z" * 20: "d key"}
