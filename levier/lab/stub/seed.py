"""What cloud-init does at a host's first boot, as far as Levier's seeds ask for it (NoCloud data source)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from levier.domain.errors import Rejected

_SEED = "var/lib/cloud/seed/nocloud"
_INSTANCE = "var/lib/cloud/data/instance-id"
_NETWORK = "etc/systemd/network/10-cloud-init-provision.network"
_ADDRESS = re.compile(r"^Address=([0-9.]+)(?:/\d+)?$", re.MULTILINE)


def apply_seed(root: Path) -> bool:
    """The host is what the seed on its disk says; False when there is none, or it was applied before. Safe to repeat.

    Host key, login keys, host name, address, files. Raises Rejected for a seed that cannot be read.
    """
    seed = root / _SEED
    if not (seed / "meta-data").exists():
        return False
    meta = _document(seed / "meta-data")
    instance = str(meta.get("instance-id", ""))
    done = root / _INSTANCE
    if done.exists() and done.read_text(encoding="utf-8").strip() == instance:
        return False
    user = _document(seed / "user-data")
    if not user.get("disable_root", True):
        keys = "".join(f"{key}\n" for key in user.get("ssh_authorized_keys", ()))
        _put(root / "root/.ssh/authorized_keys", keys, mode=0o600)
    for name, text in user.get("ssh_keys", {}).items():
        kind, _, half = name.partition("_")
        suffix, mode = ("", 0o600) if half == "private" else (".pub", 0o644)
        _put(root / f"etc/ssh/ssh_host_{kind}_key{suffix}", str(text).rstrip() + "\n", mode=mode)
    for file in user.get("write_files", ()):
        _put(root / str(file["path"]).lstrip("/"), str(file["content"]), mode=int(str(file["permissions"]), 8))
    _put(root / "etc/hostname", f"{meta['local-hostname']}\n", mode=0o644)
    _put(root / _NETWORK, _network(_document(seed / "network-config")), mode=0o644)
    _put(done, f"{instance}\n", mode=0o644)
    return True


def address_of(root: Path) -> str | None:
    """The static address that the host's network configuration names; None when there is none."""
    for file in sorted((root / "etc/systemd/network").glob("*.network")):
        if found := _ADDRESS.search(file.read_text(encoding="utf-8")):
            return found[1]
    return None


def _document(path: Path) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise Rejected(f"the seed's {path.name} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _network(config: dict[str, Any]) -> str:
    sections = []
    for interface in config.get("ethernets", {}).values():
        mac = interface.get("match", {}).get("macaddress", "")
        addresses = "".join(f"Address={address}\n" for address in interface.get("addresses", ()))
        sections.append(f"[Match]\nMACAddress={mac}\n[Network]\n{addresses}")
    return "".join(sections)


def _put(path: Path, text: str, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if path.parent.name == ".ssh" else 0o755)
    path.unlink(missing_ok=True)
    path.touch(mode=mode)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
