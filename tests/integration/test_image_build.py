"""Images built from the distribution's packages, with the real tools."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivers.artifacts.archive import discover_archive
from drivers.images import BuiltImage, KernelFlavour, build_image, recipe_named
from drivers.images.rootfs import resolve
from tests.rig.image_cache import image_cache, shared_image

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

RECIPE = recipe_named("debian-12", kernel=KernelFlavour.CLOUD)
BUILD = (
    "import sys, pathlib\n"
    "from drivers.images import KernelFlavour, build_image, recipe_named\n"
    "recipe = recipe_named('debian-12', kernel=KernelFlavour.CLOUD)\n"
    "image = build_image(recipe, pathlib.Path(sys.argv[1]), lambda line: print(line, flush=True))\n"
    "print('NOTE', image.note, image.record.inputs_digest)\n"
)


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    return shared_image()


@pytest.fixture(scope="module")
def raw(image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(image, tmp_path_factory.mktemp("raw"))


def unpacked(image: BuiltImage, directory: Path) -> Path:
    path = directory / "disk.raw"
    subprocess.run(["zstd", "-q", "-d", "--sparse", image.path, "-o", path], check=True)
    return path


def partitions(raw: Path) -> list[dict[str, object]]:
    table = json.loads(subprocess.check_output(["sfdisk", "--json", raw]))["partitiontable"]
    assert table["label"] == "gpt"
    return list(table["partitions"])


def root_file(raw: Path, command: str) -> str:
    """What debugfs(8) answers about the root partition."""
    offset = int(str(partitions(raw)[-1]["start"])) * 512
    return subprocess.check_output(
        ["debugfs", "-R", command, f"{raw}?offset={offset}"], stderr=subprocess.DEVNULL, text=True
    )


def test_the_disk_has_the_three_partitions_with_root_last(image: BuiltImage, raw: Path) -> None:
    assert raw.stat().st_size == image.record.raw_size_bytes
    assert [part["name"] for part in partitions(raw)] == ["bios", "esp", "root"]
    starts = [int(str(part["start"])) for part in partitions(raw)]
    assert starts == sorted(starts)
    assert b"No problems found" in subprocess.check_output(["sgdisk", "--verify", raw])


def test_the_efi_partition_holds_a_loader_at_the_removable_path(raw: Path, tmp_path: Path) -> None:
    offset = int(str(partitions(raw)[1]["start"])) * 512
    esp = tmp_path / "esp"
    subprocess.run(
        ["dd", f"if={raw}", f"of={esp}", "bs=1M", f"skip={offset >> 20}", "count=64", "status=none"], check=True
    )
    subprocess.run(["fsck.vfat", "-n", esp], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", tmp_path / "loader"], check=True)
    loader = (tmp_path / "loader").read_bytes()
    header = int.from_bytes(loader[0x3C:0x40], "little")
    assert loader[header : header + 4] == b"PE\0\0"
    assert int.from_bytes(loader[header + 4 : header + 6], "little") == 0x8664  # x86-64


def test_the_root_file_system_is_sound_and_named(raw: Path, tmp_path: Path) -> None:
    part = partitions(raw)[-1]
    root = tmp_path / "root.ext4"
    skip, count = int(str(part["start"])) // 2048, int(str(part["size"])) // 2048
    copy = ["dd", f"if={raw}", f"of={root}", "bs=1M", f"skip={skip}", f"count={count}", "conv=sparse", "status=none"]
    subprocess.run(copy, check=True)
    subprocess.run(["e2fsck", "-f", "-n", root], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stats = root_file(raw, "stats -h")
    assert "Filesystem volume name:   root\n" in stats
    assert "Block size:               4096\n" in stats


def test_nothing_of_the_builder_or_of_one_host_is_in_the_image(raw: Path) -> None:
    assert "ssh_host_" not in root_file(raw, "ls -p /etc/ssh")
    assert root_file(raw, "cat /etc/machine-id") == ""
    for absent in ("/etc/hostname", "/etc/resolv.conf", "/etc/apt/sources.list", "/var/lib/systemd/random-seed"):
        assert "Type:" not in root_file(raw, f"stat {absent}"), absent
    assert "mmdebstrap" not in root_file(raw, "ls -p /etc/apt/apt.conf.d")
    # Package sources are those the distribution's own cloud-init package names.
    listed = root_file(raw, "cat /etc/apt/sources.list.d/debian.sources")
    uris = {line.removeprefix("URIs: ") for line in listed.splitlines() if line.startswith("URIs: ")}
    cloud_cfg = root_file(raw, "cat /etc/cloud/cloud.cfg")
    assert len(uris) == 2
    assert all(uri in cloud_cfg for uri in uris)


def test_only_keys_open_the_host(raw: Path) -> None:
    sshd = root_file(raw, "cat /etc/ssh/sshd_config.d/10-levier.conf")
    assert "PasswordAuthentication no\n" in sshd
    assert "PermitRootLogin prohibit-password\n" in sshd
    shadow = root_file(raw, "cat /etc/shadow")
    assert all(line.split(":")[1] in ("*", "!", "!*") for line in shadow.splitlines())


def test_a_second_build_finds_the_first(image: BuiltImage) -> None:
    before = image.path.stat()
    stages: list[str] = []
    again = build_image(RECIPE, image_cache(), stages.append)
    assert (again.path, again.record, again.note) == (image.path, image.record, "")
    assert image.path.stat().st_ino == before.st_ino
    assert stages[-1] == "debian-12: up to date"


def test_a_changed_recipe_is_built_beside_the_old_one(image: BuiltImage, tmp_path: Path) -> None:
    old = tmp_path / "debian-12" / image.record.inputs_digest
    shutil.copytree(image.path.parent, old)
    stages: list[str] = []
    changed = build_image(dataclasses.replace(RECIPE, suite="trixie", extra=("memcached",)), tmp_path, stages.append)
    assert changed.path.parent != old
    assert old.exists()
    assert changed.record.suite == "trixie"
    assert "-cloud-amd64" in changed.record.kernel_version
    assert {path.name for path in changed.path.parent.iterdir()} == {"image.raw.zst", "image.json"}
    assert changed.record.sha256 != image.record.sha256
    assert any("installing packages" in stage for stage in stages)
    assert sorted(path.name for path in (tmp_path / "debian-12").iterdir()) == sorted(
        [".lock", old.name, changed.path.parent.name]
    )
    disk = unpacked(changed, tmp_path)
    assert "memcached" in changed.record.packages
    assert "Type: regular" in root_file(disk, "stat /usr/lib/systemd/system/memcached.service")
    started = root_file(disk, "ls -p /etc/systemd/system/multi-user.target.wants")
    assert "ssh.service" in started
    assert "memcached" not in started, "a service that nobody has configured yet would start at the first boot"


def test_the_archive_decides_what_is_current() -> None:
    resolution = resolve(RECIPE, discover_archive())
    assert {"cloud-init", "openssh-server", "linux-image-cloud-amd64", "libc6"} <= set(resolution.packages)


def offline_build(cache: Path) -> subprocess.CompletedProcess[str]:
    """A build in a network namespace that has no network at all."""
    return subprocess.run(
        ["unshare", "--net", sys.executable, "-c", BUILD, str(cache)], capture_output=True, text=True, timeout=300
    )


def test_without_a_network_the_earlier_build_is_kept_and_says_so(image: BuiltImage) -> None:
    done = offline_build(image_cache())
    assert done.returncode == 0, done.stderr
    assert "could not be asked for updates" in done.stdout
    assert image.record.inputs_digest in done.stdout


def test_without_a_network_and_without_a_build_the_cause_is_named(tmp_path: Path) -> None:
    done = offline_build(tmp_path)
    assert done.returncode != 0
    assert "Unreachable: the package archive cannot be reached" in done.stderr
    assert [path.name for path in (tmp_path / "debian-12").iterdir()] == [".lock"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_running_and_nothing_half_done(
    tmp_path: Path, sent: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        while b"installing packages" not in process.stdout.readline():
            assert process.poll() is None
        wait_until(lambda: any(tmp_path.glob("debian-12/.building-*/root/var")), "the unpacking to begin")
        process.send_signal(sent)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not programs_naming(tmp_path), "the build's programs to end")
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert list(tmp_path.glob("debian-12/[0-9a-f]*")) == []
    if sent == signal.SIGINT:
        assert [path.name for path in (tmp_path / "debian-12").iterdir()] == [".lock"]


def wait_until(condition: object, what: str, *, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.1)


def programs_naming(path: Path) -> list[str]:
    """Command lines of running programs that name `path`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(path) in command:
                found.append(command)
    return found
