"""A Debian 12 behind a real sshd: every session is confined to a root file system of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.ssh import open_host
from levier.domain.ssh import RemoteHost
from tests.rig.release_cache import root_archive
from tests.rig.sshd import LoopbackSshd


@dataclass(frozen=True, slots=True)
class ChrootHost:
    """A host, and its root file system as this machine sees it."""

    ssh: RemoteHost
    root: Path

    @contextlib.contextmanager
    def small_disk(self, size_kib: int) -> Iterator[Path]:
        """/opt/levier is a file system of that size of its own."""
        place = self.root / "opt/levier"
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def chroot_host(directory: Path) -> Iterator[ChrootHost]:
    """The host, up, and gone afterwards. `directory` is for sshd's own files."""
    archive = root_archive()
    # sshd refuses a root below a directory that others may write to, as /tmp is.
    with tempfile.TemporaryDirectory(dir="/srv", prefix="levier-test-") as parent:
        Path(parent).chmod(0o755)
        root = Path(parent) / "root"
        root.mkdir()
        subprocess.run(["tar", "--extract", "--zstd", "--file", archive, "--directory", root], check=True)
        shutil.copy("/etc/hosts", root / "etc/hosts")
        server = LoopbackSshd(directory, extra_config=f"ChrootDirectory {root}")
        server.start()
        ssh = open_host(server.target())
        try:
            yield ChrootHost(ssh, root)
        finally:
            ssh.close()
            server.stop()
