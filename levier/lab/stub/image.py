"""What a `stub` rack brings along for Levier to import: an image for its disks, and the deploy ramdisk's bundle."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from levier.domain.errors import NotFound, Rejected
from levier.lab.commands import SYSTEM_PATH, run_program

_PROGRAMS = {
    "debugfs": "e2fsprogs",
    "mke2fs": "e2fsprogs",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "zstd": "zstd",
}
_MIB = 1 << 20
_ROOT_MIB = 8
_LAYOUT = f"label: gpt\nstart=1MiB, size={_ROOT_MIB}MiB, name=root, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n"
"""Root partition of x86-64: Discoverable Partitions Specification."""
INIT = "etc/init.d/rcS"
PROGRAMS = "opt/stub/bin"
"""Where an image keeps the programs that a stub host has of its own; all others are this computer's."""

_DIRECTORIES = {
    "dev": 0o755,
    "etc/ssh": 0o755,
    "etc/sysctl.d": 0o755,
    "home": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/tmp": 0o1777,
}
_FILES = {
    "etc/group": "root:x:0:\ndaemon:x:1:\nadm:x:4:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/machine-id": "",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/os-release": 'ID=levier-stub\nNAME="Levier stub host"\nPRETTY_NAME="Levier stub host 1"\nVERSION_ID=1\n',
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    ),
    "etc/ssh/sshd_config": (
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2\n"
    ),
}
_SCRIPTS = {
    INIT: "rcs.sh",
    f"{PROGRAMS}/sshd": "sshd.sh",
    f"{PROGRAMS}/systemctl": "systemctl.sh",
}
_LINKS = {
    "etc/localtime": "/usr/share/zoneinfo/Etc/UTC",
    f"{PROGRAMS}/halt": "systemctl",
    f"{PROGRAMS}/poweroff": "systemctl",
    f"{PROGRAMS}/reboot": "systemctl",
}


def require_stub() -> None:
    """This chassis has its programs and may make namespaces. Raises NotFound with what to install, Rejected."""
    missing = sorted(
        {package for program, package in _PROGRAMS.items() if shutil.which(program, path=SYSTEM_PATH) is None}
    )
    if missing:
        raise NotFound("programs for the stub chassis are missing", hint=f"apt install {' '.join(missing)}")
    try:
        run_program(["unshare", "--user", "--map-root-user", "true"])
    except Rejected as error:
        raise Rejected(
            f"this user cannot make a user namespace: {error}",
            hint="see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and "
            "kernel.apparmor_restrict_unprivileged_userns",
        ) from error


def write_image(target: Path) -> None:
    """`target` is the image of a stub host: a raw disk with a GPT and a small root file system, as one zstd stream.

    Takes no root. Raises Rejected when a program fails.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".image-") as directory:
        work = Path(directory)
        root, disk = work / "root", work / "disk"
        _furnish(root)
        disk.touch()
        with disk.open("r+b") as file:
            file.truncate((_ROOT_MIB + 2) * _MIB)
        run_program(["/sbin/sfdisk", "--quiet", str(disk)], stdin=_LAYOUT)
        run_program(
            [
                # As root of a user namespace of its own: all files in the image belong to root, whoever makes it.
                *("unshare", "--user", "--map-root-user", "/sbin/mke2fs", "-q", "-t", "ext4"),
                *("-O", "^has_journal,^resize_inode", "-N", "512", "-E", f"offset={_MIB}"),
                *("-d", str(root), str(disk), f"{_ROOT_MIB * 1024}k"),
            ]
        )
        run_program(["zstd", "--quiet", "--check", "-f", str(disk), "-o", str(target)])


def _furnish(root: Path) -> None:
    for name, mode in _DIRECTORIES.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    for name, text in _FILES.items():
        _write(root / name, text, mode=0o644)
    for name, source in _SCRIPTS.items():
        _write(root / name, files("levier.lab.stub").joinpath(source).read_text(encoding="utf-8"), mode=0o755)
    for name, goal in _LINKS.items():
        (root / name).symlink_to(goal)


def _write(path: Path, text: str, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


_KERNEL = b"The kernel of the stub chassis: its firmware fetches this whole, and then does the ramdisk's work itself.\n"
_RAMDISK = b"The ramdisk of the stub chassis: see the kernel beside it. It boots no other machine.\n"


def write_ramdisk(target: Path) -> None:
    """`target` is a bundle for `levier ramdisk import`.

    The firmware of a stub machine fetches kernel and ramdisk like any other and runs neither, so these are words only.
    """
    record = {
        "kernel": "stub",
        "kernel_version": "levier-stub",
        "drivers": "none",
        "modules": 0,
        "kernel_sha256": hashlib.sha256(_KERNEL).hexdigest(),
        "kernel_size_bytes": len(_KERNEL),
        "ramdisk_sha256": hashlib.sha256(_RAMDISK).hexdigest(),
        "ramdisk_size_bytes": len(_RAMDISK),
        "built_at": datetime.now(UTC).isoformat(),
        "inputs_digest": hashlib.sha256(_KERNEL + _RAMDISK).hexdigest(),
        "recipe_digest": "",
    }
    with tarfile.open(target, mode="w") as archive:
        for name, content in (
            ("ramdisk.json", json.dumps(record, indent=2).encode()),
            ("kernel", _KERNEL),
            ("ramdisk", _RAMDISK),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
