"""Where a lab keeps its things."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BASE = Path("/var/lib/levier/lab")
DIR_VARIABLE = "LEVIER_LAB_DIR"
"""Environment variable that replaces the state directory of the lab."""


def base_dir() -> Path:
    """Where labs keep their state: /var/lib/levier/lab for root, below the user's own state directory for others.

    Source: XDG Base Directory Specification 0.8.
    """
    if os.geteuid() == 0:
        return BASE
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "levier/lab"


def state_dir(*, name: str, explicit: Path | None = None) -> Path:
    """The state directory: `explicit`, else $LEVIER_LAB_DIR, else NAME in `base_dir`."""
    if explicit is not None:
        return explicit.absolute()
    from_environment = os.environ.get(DIR_VARIABLE)
    return Path(from_environment).absolute() if from_environment else base_dir() / name


@dataclass(frozen=True, slots=True)
class Layout:
    """The files below a lab's state directory."""

    root: Path

    @property
    def spec(self) -> Path:
        """What the lab was asked to be; its presence means that the lab is up or was not taken down."""
        return self.root / "lab.json"

    @property
    def state(self) -> Path:
        """The nodes as the daemon last knew them."""
        return self.root / "state.json"

    @property
    def ledger(self) -> Path:
        """The append-only event ledger, one JSON object per line."""
        return self.root / "events.jsonl"

    @property
    def site(self) -> Path:
        """The site file that describes this rack to the product."""
        return self.root / "site.yaml"

    @property
    def credentials(self) -> Path:
        """BMC credentials by reference (mode 0600)."""
        return self.root / "credentials.json"

    @property
    def control(self) -> Path:
        """The daemon's unix socket (mode 0600)."""
        return self.root / "control.sock"

    @property
    def daemon_log(self) -> Path:
        """What the daemon writes to standard output and error."""
        return self.root / "daemon.log"

    @property
    def mirror_log(self) -> Path:
        """What the package mirror writes to standard output and error."""
        return self.root / "mirror.log"

    @property
    def nodes(self) -> Path:
        """One directory per node."""
        return self.root / "nodes"

    def node(self, name: str) -> Path:
        """The directory of one node: disk, firmware variables, console log."""
        return self.nodes / name

    def disk(self, name: str) -> Path:
        """The node's raw disk (sparse)."""
        return self.node(name) / "disk.img"

    @property
    def image(self) -> Path:
        """The image that a `stub` rack brings along."""
        return self.root / "image.raw.zst"

    @property
    def ramdisk(self) -> Path:
        """The bundle of a deploy ramdisk that a `stub` rack brings along."""
        return self.root / "ramdisk.tar"

    def system(self, name: str) -> Path:
        """What a `stub` node's operating system has on its disk, unpacked, while it runs."""
        return self.node(name) / "system"

    def console(self, name: str) -> Path:
        """The node's serial console, all boots."""
        return self.node(name) / "console.log"

    def files(self) -> tuple[Path, ...]:
        """Everything a lab writes directly into its directory, the ledger last."""
        return (
            self.state,
            self.site,
            self.credentials,
            self.image,
            self.ramdisk,
            self.control,
            self.daemon_log,
            self.mirror_log,
            self.spec,
            self.ledger,
        )
