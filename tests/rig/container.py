"""A Debian host in systemd-nspawn: systemd as PID 1, sshd, a network namespace of its own, real reboots.

The root file system is built once from the machine's own Debian mirror and kept in the directory that LEVIER_TEST_CACHE
names (default `~/.cache/levier`); each container gets an overlay on top. Leaves no process, mount, namespace or cgroup.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from drivers.ssh import generate_host_key
from levier.domain.ssh import SshTarget
from tests.rig.sshd import wait_for_banner
from tests.rig.wire import Wire

_PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,systemd-timesyncd,tzdata,procps,iproute2,sudo,hostname,libpam-systemd"
)
_HOOKS = (
    'chroot "$1" useradd --create-home --shell /bin/bash ops',
    'echo "ops ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/ops"',
    'rm -f "$1"/etc/ssh/ssh_host_*',
    'printf "[Service]\\nTimeoutStopSec=5\\n" | install -D /dev/stdin "$1/etc/systemd/system/ssh.service.d/quick.conf"',
)
_CLONE_NEWNET = 0x40000000
_BOOT_TIMEOUT_S = 90.0
_EXIT_REBOOT = 133
"""systemd-nspawn's exit status when the container rebooted and --keep-unit leaves the restart to its starter."""


class Container:
    """One booted container; sshd is reached on 127.0.0.1 through `wire`."""

    def __init__(self, base: Path, directory: Path) -> None:
        self.name = f"lvt-{uuid.uuid4().hex[:8]}"
        self.host_key = generate_host_key("container")
        self.login = generate_host_key("container-login")
        self.root = directory / "root"
        self._directory = directory
        self._base = base
        self._cgroups = [path / self.name for path in _cgroup_roots()]
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.wire = Wire(self._connect)

    def target(self, *, username: str = "root") -> SshTarget:
        """How the container is reached, as root or as `ops`, who may use sudo."""
        return SshTarget(
            "127.0.0.1", self.wire.port, username, (self.host_key.public_line,), self.login.private_openssh
        )

    def start(self) -> None:
        """sshd in the container answers."""
        self._mount()
        self._write_keys()
        _run("ip", "netns", "add", self.name)
        _run("ip", "-n", self.name, "link", "set", "lo", "up")
        for cgroup in self._cgroups:
            cgroup.mkdir()
        self._boot()
        wait_for_banner(self.wire.port, timeout_s=_BOOT_TIMEOUT_S)

    def stop(self) -> None:
        """Nothing of the container is left but its directory. Safe to repeat."""
        self.wire.close()
        if self._supervisor is not None:
            self._supervisor.kill()
            self._supervisor.wait(timeout=10)
            self._supervisor = None
        for cgroup in self._cgroups:
            _remove_cgroup(cgroup)
        if os.path.ismount(self.root):
            _run("umount", str(self.root))
        if Path("/run/netns", self.name).exists():
            _run("ip", "netns", "del", self.name)
        for left in Path("/run/systemd/nspawn").glob(f"*/{self.name}"):
            with contextlib.suppress(OSError):
                left.rmdir()

    def console(self) -> str:
        """What the container's console showed."""
        return (self._directory / "console.log").read_text(errors="replace")

    def _mount(self) -> None:
        for name in ("root", "upper", "work"):
            (self._directory / name).mkdir()
        layers = f"lowerdir={self._base},upperdir={self._directory}/upper,workdir={self._directory}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))

    def _write_keys(self) -> None:
        key = self.root / "etc/ssh/ssh_host_ed25519_key"
        key.touch(mode=0o600)
        key.write_text(self.host_key.private_openssh)
        (self.root / "etc/hostname").write_text("unnamed\n")
        for home, uid in ((self.root / "root", 0), (self.root / "home/ops", 1000)):
            ssh = home / ".ssh"
            ssh.mkdir(mode=0o700, exist_ok=True)
            keys = ssh / "authorized_keys"
            keys.write_text(self.login.public_line + "\n")
            keys.chmod(0o600)
            for path in (ssh, keys):
                os.chown(path, uid, uid)

    def _boot(self) -> None:
        joins = "".join(f"echo $$ > {cgroup}/cgroup.procs; " for cgroup in self._cgroups)
        nspawn = (
            # The time zone would be set to this machine's at every start.
            "systemd-nspawn -q --keep-unit --register=no --console=pipe --capability=all --timezone=off "
            f"-M {self.name} --network-namespace-path=/run/netns/{self.name} -D {self.root} --boot"
        )
        # Only the child enters the cgroup, so that the loop can start the next one in it.
        loop = f"while sh -c '{joins}exec {nspawn}'; [ $? = {_EXIT_REBOOT} ]; do :; done"
        with (self._directory / "console.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                ["sh", "-c", loop],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    # Its own network's sysctl settings are writable as on a real host, the kernel's are not.
                    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
                },
            )

    def _connect(self) -> socket.socket:
        """A socket of the container's network namespace; a thread of its own enters that, and ends."""
        made: list[socket.socket] = []

        def enter() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            try:
                if libc.setns(fd, _CLONE_NEWNET) == 0:
                    with contextlib.suppress(OSError):
                        made.append(socket.create_connection(("127.0.0.1", 22), timeout=5))
            finally:
                os.close(fd)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if not made:
            raise ConnectionRefusedError(f"nothing listens in {self.name}")
        made[0].settimeout(None)
        return made[0]


@contextlib.contextmanager
def running(suite: str, directory: Path) -> Iterator[Container]:
    """A container of a Debian suite, up, and gone afterwards."""
    container = Container(base_tree(suite), directory)
    try:
        container.start()
        yield container
    finally:
        container.stop()


def base_tree(suite: str, *, extra: Sequence[str] = ()) -> Path:
    """The suite's root file system with `extra` packages, built if it is not in the cache.

    Concurrent test runs build it once.
    """
    packages = ",".join((_PACKAGES, *sorted(extra)))
    cache = Path(os.environ.get("LEVIER_TEST_CACHE") or Path.home() / ".cache/levier")
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256("\0".join((packages, *_HOOKS)).encode()).hexdigest()[:12]
    tree = cache / f"test-host-{suite}-{digest}"
    with (cache / f"{tree.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            partial = cache / f"{tree.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            hooks = [f"--customize-hook={hook}" for hook in _HOOKS]
            options = ["--variant=minbase", "--format=directory", f"--include={packages}", *hooks]
            _run("mmdebstrap", "--quiet", *options, suite, str(partial), debian_mirror(), timeout_s=540)
            partial.rename(tree)
    return tree


def debian_mirror() -> str:
    """The mirror that this machine's own apt takes Debian from."""
    columns = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    listing = _run("apt-get", "indextargets", "--format", columns, "Created-By: Packages")
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    for row in listing.splitlines():
        uri, suite, component = row.split("|")
        if (suite, component) == (release["VERSION_CODENAME"].strip('"'), "main"):
            return uri
    raise LookupError("apt knows no mirror of this Debian release")


def _cgroup_roots() -> list[Path]:
    """Where a cgroup is made: the unified hierarchy, and systemd's own beside it on a hybrid machine."""
    top = Path("/sys/fs/cgroup")
    if not (top / "unified").is_dir():
        return [top]
    return [path for path in (top / "unified", top / "systemd") if path.is_dir()]


def _remove_cgroup(cgroup: Path) -> None:
    if not cgroup.is_dir():
        return
    if (cgroup / "cgroup.kill").exists():
        (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + 20
    while cgroup.is_dir():
        for path in sorted((p for p in cgroup.rglob("*") if p.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        try:
            cgroup.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _run(*argv: str, timeout_s: float = 60) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
