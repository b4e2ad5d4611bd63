"""Where this Levier keeps its state and finds its services; read from the environment once per process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from levier.domain.errors import InvalidRequest
from levier.services.patience import Patience, load_patience

DEFAULT_STATE_DIR = Path("/var/lib/levier")
API_PORT = 8420
BOOT_PORT = 8480
PREFECT_PORT = 4200


@dataclass(frozen=True, slots=True)
class Settings:
    """The places of one Levier installation. Secrets are files below `state_dir`, never settings."""

    state_dir: Path
    database_url: str
    api_url: str
    prefect_api_url: str
    boot_port: int
    image_cache: Path
    patience: Patience = field(default_factory=Patience)
    build_ramdisk: bool = True
    """Whether the API process builds the deploy ramdisk; otherwise it is imported."""
    release_cache: Path | None = None
    """Where bundles of releases lie; None for the usual place below `state_dir`."""

    @property
    def token_file(self) -> Path:
        """The API token of the local operator, mode 0600."""
        return self.state_dir / "api-token"

    @property
    def secrets_dir(self) -> Path:
        """The encrypted secret store."""
        return self.state_dir / "secrets"

    @property
    def bundle_cache(self) -> Path:
        """Where bundles of releases and what they are built from lie."""
        return self.release_cache or self.state_dir / "releases"

    @property
    def release_definitions(self) -> Path:
        """An installation's own releases, beside those that Levier ships."""
        return self.state_dir / "release-definitions"

    @property
    def netboot_dir(self) -> Path:
        """Configuration, hosts file, leases and TFTP root of dnsmasq."""
        return self.state_dir / "netboot"


def load_settings() -> Settings:
    """The settings of this process, from `LEVIER_*` and `PREFECT_API_URL`, each with its default. Safe to repeat."""
    state_dir = Path(os.environ.get("LEVIER_STATE_DIR", str(DEFAULT_STATE_DIR))).absolute()
    return Settings(
        state_dir=state_dir,
        database_url=os.environ.get("LEVIER_DATABASE_URL", f"sqlite:///{state_dir / 'levier.db'}"),
        api_url=os.environ.get("LEVIER_API_URL", f"http://127.0.0.1:{_port('LEVIER_API_PORT', API_PORT)}"),
        prefect_api_url=os.environ.get(
            "PREFECT_API_URL", f"http://127.0.0.1:{_port('LEVIER_PREFECT_PORT', PREFECT_PORT)}/api"
        ),
        boot_port=_port("LEVIER_BOOT_PORT", BOOT_PORT),
        image_cache=Path(os.environ.get("LEVIER_IMAGE_CACHE", str(state_dir / "images"))).absolute(),
        patience=load_patience(),
        build_ramdisk=os.environ.get("LEVIER_BUILD_RAMDISK", "yes") != "no",
        release_cache=Path(releases).absolute() if (releases := os.environ.get("LEVIER_RELEASE_CACHE")) else None,
    )


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InvalidRequest(f"{variable}={text!r} is not a TCP port", hint=f"set {variable} to a number of 1-65535")
    return int(text)
