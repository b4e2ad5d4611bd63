"""A virtual machine in software emulation whose only network is QEMU's own, on this machine's loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
MAC = "52:54:00:aa:bb:01"
ADDRESS, PREFIX_LENGTH, GATEWAY = "10.0.2.15", 24, "10.0.2.2"
"""What QEMU's user networking gives and expects."""


@dataclass
class Machine:
    """One QEMU process. `disks` are complete `-drive`/`-device` argument lists."""

    work: Path
    disks: list[str]
    uefi: bool = False
    direct_boot: list[str] = field(default_factory=list)
    memory_mib: int = 512
    process: subprocess.Popen[bytes] | None = None
    ssh_port: int = 0

    @property
    def console(self) -> str:
        """All that the serial console has shown."""
        path = self.work / "serial.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Machine:
        self.ssh_port = _free_port()
        self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=30)

    def wait_off(self, *, timeout_s: float) -> None:
        """The machine has powered itself off."""
        assert self.process is not None
        try:
            assert self.process.wait(timeout=timeout_s) == 0
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still on after {timeout_s} s; console:\n{self.console[-3000:]}") from error

    def wait_ssh(self, identity: Path, host_public_key: str, *, timeout_s: float) -> float:
        """A login with this key on the host with exactly that host key worked; seconds since this call."""
        begin = time.monotonic()
        known = self.work / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.ssh_port} {host_public_key}\n")
        while (done := self.ssh(identity, "true")).returncode != 0:
            if time.monotonic() - begin > timeout_s:
                raise AssertionError(f"no login within {timeout_s} s: {done.stderr}\nconsole:\n{self.console[-3000:]}")
            time.sleep(0.3)
        return time.monotonic() - begin

    def ssh(self, identity: Path, command: str) -> subprocess.CompletedProcess[str]:
        """`command` run on the machine as root."""
        options = [
            f"UserKnownHostsFile={self.work}/known_hosts",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "ConnectTimeout=20",
        ]
        flags = [part for option in options for part in ("-o", option)]
        return subprocess.run(
            ["ssh", "-F", "none", "-i", str(identity), *flags, "-p", str(self.ssh_port), "root@127.0.0.1", command],
            capture_output=True,
            text=True,
            timeout=120,
        )

    def _command(self) -> list[str]:
        network = f"user,id=net,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=64", "-cpu", "qemu64"]
        command += ["-m", str(self.memory_mib), "-display", "none", "-monitor", "none", "-no-reboot"]
        command += ["-serial", f"file:{self.work}/serial.log", "-device", "virtio-rng-pci"]
        command += ["-netdev", network, "-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile="]
        command += ["-smbios", "type=1,serial=LV0042,manufacturer=Levier,product=Test Machine"]
        if self.uefi:
            variables = self.work / "vars.fd"
            shutil.copyfile(OVMF_VARS, variables)
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}"]
            command += ["-drive", f"if=pflash,format=raw,file={variables}"]
        return [*command, *self.disks, *self.direct_boot]


def virtio_disk(path: Path, *, name: str, serial: str = "") -> list[str]:
    """Arguments for `path` as a virtio disk. Zero blocks take no space here, as in a rack of virtual machines."""
    drive = f"file={path},format=raw,if=none,id={name},cache=unsafe,discard=unmap,detect-zeroes=unmap"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={serial}"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
