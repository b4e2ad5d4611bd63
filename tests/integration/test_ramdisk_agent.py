"""The deploy ramdisk on a machine of its own, against a server that speaks the protocol; then the disk it wrote."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import drivers.ramdisk
from drivers.images import BuiltImage, SeedSpec, render_seed
from drivers.ramdisk import BuiltRamdisk
from levier.domain.agentwire import CONSOLE_ARGUMENTS
from tests.rig.agent_service import AgentService
from tests.rig.image_cache import shared_image, shared_ramdisk
from tests.rig.machine import ADDRESS, GATEWAY, MAC, PREFIX_LENGTH, Machine, virtio_disk

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

GIB = 1 << 30
MIB = 1 << 20
SMALL_BYTES = 64 * MIB
BOOT_S = 240
"""Software emulation on a busy machine; idle it takes a tenth."""


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    return shared_image()


@pytest.fixture(scope="module")
def ramdisk() -> BuiltRamdisk:
    return shared_ramdisk()


@dataclass
class Keys:
    """Paths of an operator's and a host's key pair."""

    operator: Path
    host: Path

    def public(self, path: Path) -> str:
        return path.with_suffix(".pub").read_text().strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    work = tmp_path_factory.mktemp("keys")
    for name in ("operator", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", work / name], check=True)
    return Keys(operator=work / "operator", host=work / "host")


@pytest.fixture(scope="module")
def seed(keys: Keys) -> bytes:
    return render_seed(
        SeedSpec(
            instance_id="test-1",
            hostname="a1-01",
            mac=MAC,
            address=ADDRESS,
            prefix_length=PREFIX_LENGTH,
            gateway=GATEWAY,
            dns=(GATEWAY,),
            host_private_key=keys.host.read_text(),
            host_public_key=keys.public(keys.host),
            authorized_keys=(keys.public(keys.operator),),
        )
    )


def sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)
    return path


def direct_boot(ramdisk: BuiltRamdisk, service: AgentService, *, token: str) -> list[str]:
    """The kernel line of docs/agent-protocol.md, section 1, given to QEMU instead of through iPXE."""
    line = f"levier.url={service.guest_url} levier.token={token} levier.mac={MAC} {CONSOLE_ARGUMENTS}"
    return ["-kernel", str(ramdisk.kernel_path), "-initrd", str(ramdisk.ramdisk_path), "-append", line]


@dataclass
class Session:
    """A machine in the ramdisk that has claimed."""

    machine: Machine
    service: AgentService
    token: str
    disk: Path


@pytest.fixture(scope="module")
def session(ramdisk: BuiltRamdisk, seed: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    work = tmp_path_factory.mktemp("machine")
    disk = sparse(work / "vda.raw", 4 * GIB)
    # What an earlier system left: an image with holes must not let it shine through.
    subprocess.run(
        ["dd", "if=/dev/urandom", f"of={disk}", "bs=1M", "count=900", "conv=notrunc", "status=none"], check=True
    )
    small, sata, nvme = (sparse(work / f"{name}.raw", SMALL_BYTES) for name in ("vdb", "sda", "nvme"))
    others = [
        *virtio_disk(small, name="d1", serial="SMALL-1"),
        *("-drive", f"file={sata},format=raw,if=none,id=d2", "-device", "ich9-ahci,id=ahci"),
        *(
            "-device",
            "ide-hd,drive=d2,bus=ahci.0,serial=SATA-1,model=Levier Spinner,wwn=0x5000c50012345678,rotation_rate=7200",
        ),
        *("-drive", f"file={nvme},format=raw,if=none,id=d3", "-device", "nvme,drive=d3,serial=NVME-1"),
        *("-device", "ide-cd,bus=ahci.1", "-netdev", "hubport,id=idle,hubid=9"),
        *("-device", "e1000e,netdev=idle,mac=52:54:00:aa:bb:02,romfile="),
    ]
    with AgentService(seed=seed) as service:
        token = service.token
        boot = direct_boot(ramdisk, service, token=token)
        with Machine(work, [*virtio_disk(disk, name="d0", serial="BIG-1"), *others], direct_boot=boot) as machine:
            service.wait_for(lambda: "claim" in service.times, timeout_s=BOOT_S, what="claim")
            yield Session(machine, service, token, disk)


def compress(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.zst")
    subprocess.run(["zstd", "-q", "--check", "--rm", path, "-o", packed], check=True)
    return packed


def order(
    session: Session, packed: Path, *, disk: str = "vda", raw: int = MIB, **claims: str | int
) -> list[dict[str, str]]:
    """The agent's reports on a write whose true digest and length can be overridden by `claims`."""
    facts = {"sha256": hashlib.sha256(packed.read_bytes()).hexdigest(), "size_bytes": packed.stat().st_size, **claims}
    begin = session.service.order_write(
        disk, packed, sha256=str(facts["sha256"]), size_bytes=int(facts["size_bytes"]), raw_size_bytes=raw
    )
    return session.service.outcome(begin)


def steps(reports: list[dict[str, str]]) -> list[str]:
    return [f"{report['stage']}/{report['state']}" for report in reports if report["state"] != "progress"]


# In this order on one machine: what must fail, each with its cause, then what must succeed.


def test_the_inventory_is_complete(session: Session) -> None:
    inventory = session.service.inventory
    assert {key: inventory[key] for key in ("serial", "vendor", "product", "firmware", "cpu_count", "memory_mib")} == {
        "serial": "LV0042",
        "vendor": "Levier",
        "product": "Test Machine",
        "firmware": "bios",
        "cpu_count": "1",
        "memory_mib": "512",
    }
    assert "QEMU" in inventory["cpu_model"]
    disks = {key.split(".")[1] for key in inventory if key.startswith("disk.")}
    assert disks == {"vda", "vdb", "sda", "nvme0n1"}  # not the CD-ROM
    assert (inventory["disk.vda.size_bytes"], inventory["disk.vda.serial"]) == (str(4 * GIB), "BIG-1")
    assert inventory["disk.sda.model"] == "Levier Spinner"
    assert inventory["disk.sda.serial"] == "SATA-1"
    assert inventory["disk.sda.wwn"] == "naa.5000c50012345678"
    assert inventory["disk.sda.rotational"] == "1"
    assert (inventory["disk.nvme0n1.serial"], inventory["disk.nvme0n1.rotational"]) == ("NVME-1", "0")
    nics = {inventory[key]: inventory[key.replace(".mac", ".link")] for key in inventory if key.endswith(".mac")}
    assert nics == {MAC: "1", "52:54:00:aa:bb:02": "1"}


def test_a_disk_that_is_not_there_is_named_with_those_that_are(session: Session, tmp_path: Path) -> None:
    reports = order(session, compress(sparse(tmp_path / "x", MIB)), disk="sdz")
    assert steps(reports) == ["write/started", "write/failed"]
    assert "no disk 'sdz'" in reports[-1]["detail"]
    assert all(name in reports[-1]["detail"] for name in ("vda", "vdb", "sda", "nvme0n1"))


def test_a_disk_too_small_is_refused_before_it_is_touched(session: Session, tmp_path: Path) -> None:
    reports = order(session, compress(sparse(tmp_path / "x", MIB)), disk="vdb", raw=SMALL_BYTES + 1)
    assert steps(reports) == ["write/started", "write/failed"]
    assert reports[-1]["detail"] == (
        f"disk vdb is too small: it has {SMALL_BYTES} bytes, the image needs {SMALL_BYTES + 1}"
    )


def test_an_image_with_another_digest_is_reported_with_both(session: Session, tmp_path: Path) -> None:
    packed = compress(sparse(tmp_path / "x", 8 * MIB))
    expected, got = "0" * 64, hashlib.sha256(packed.read_bytes()).hexdigest()
    reports = order(session, packed, disk="vdb", sha256=expected)
    assert steps(reports) == ["write/started", "write/done", "verify/started", "verify/failed"]
    assert "image checksum mismatch" in reports[-1]["detail"]
    assert expected in reports[-1]["detail"]
    assert got in reports[-1]["detail"]


def test_an_image_damaged_on_the_way_is_a_checksum_mismatch_too(session: Session, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(hashlib.shake_256(b"x").digest(4 * MIB))
    packed = compress(tmp_path / "x")
    content = bytearray(packed.read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    reports = order(session, packed, disk="vdb", sha256=expected)
    assert steps(reports)[-1] == "verify/failed"
    assert hashlib.sha256(content).hexdigest() in reports[-1]["detail"]


def test_a_file_that_is_no_image_is_told_in_the_unpackers_words(session: Session, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no zstd stream " * 1000)
    reports = order(session, tmp_path / "x", disk="vdb")
    assert steps(reports) == ["write/started", "write/failed"]
    assert "cannot be written to vdb" in reports[-1]["detail"]
    assert "unsupported format" in reports[-1]["detail"]


def test_an_image_larger_than_it_says_meets_the_end_of_the_disk(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(hashlib.shake_256(b"y").digest(MIB) * 72)
    reports = order(session, compress(path), disk="vdb", raw=SMALL_BYTES)
    assert steps(reports) == ["write/started", "write/failed"]
    assert "No space left on device" in reports[-1]["detail"]


def test_a_cut_connection_is_told_with_what_had_come(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(hashlib.shake_256(b"z").digest(4 * MIB))
    session.service.cut_after_bytes = MIB
    reports = order(session, compress(path), disk="vdb", raw=4 * MIB)
    session.service.cut_after_bytes = 0
    assert steps(reports) == ["write/started", "write/failed"]
    assert "the image cannot be fetched" in reports[-1]["detail"]
    assert f"{MIB} of " in reports[-1]["detail"]


def test_an_image_the_server_does_not_have_is_told_with_its_answer(session: Session) -> None:
    service = session.service
    begin = len(service.reports)
    url = f"{service.guest_url}/gone"
    facts = {"image_sha256": "0" * 64, "image_size_bytes": 1, "raw_size_bytes": 1}
    service.order("write", disk="vdb", image_url=url, seed_url=f"{service.guest_url}/agent/seed", **facts)
    reports = service.outcome(begin)
    assert steps(reports) == ["write/started", "write/failed"]
    assert "404 Not Found" in reports[-1]["detail"]


def test_an_image_without_a_root_partition_is_told(session: Session, tmp_path: Path) -> None:
    path = sparse(tmp_path / "x", 16 * MIB)
    subprocess.run(["sfdisk", "-q", path], input=b'label: gpt\nstart=1MiB, size=8MiB, name="data"\n', check=True)
    reports = order(session, compress(path), disk="vdb", raw=16 * MIB)
    assert steps(reports) == [
        "write/started",
        "write/done",
        "verify/started",
        "verify/done",
        "seed/started",
        "seed/failed",
    ]
    assert "no partition named 'root'" in reports[-1]["detail"]


def test_the_disk_is_the_image_with_the_seed_and_nothing_else(session: Session, image: BuiltImage, seed: bytes) -> None:
    reference = image.ref()
    begin = session.service.order_write(
        "vda",
        image.path,
        sha256=reference.sha256,
        size_bytes=reference.size_bytes,
        raw_size_bytes=reference.raw_size_bytes,
    )
    reports = session.service.outcome(begin, timeout_s=600)
    expected = [f"{stage}/{state}" for stage in ("write", "verify", "seed") for state in ("started", "done")]
    assert steps(reports) == expected, reports[-1]
    progress = [int(report["bytes_done"]) for report in reports if report["state"] == "progress"]
    assert progress == sorted(progress)
    assert progress
    assert progress[-1] <= reference.size_bytes + 1024
    assert int(next(r for r in reports if steps([r]) == ["write/done"])["bytes_done"]) == reference.size_bytes

    subprocess.run(["sync"], check=True)
    raw = image_raw(image, session.disk.parent / "reference.raw")
    # Up to the root partition not a byte differs, although the disk was full of noise.
    head = root_offset(raw)
    subprocess.run(["cmp", f"--bytes={head}", raw, session.disk], check=True)
    for name in ("user-data", "meta-data", "network-config"):
        path = f"/var/lib/cloud/seed/nocloud/{name}"
        assert root_file(session.disk, f"cat {path}") in seed.decode()
        assert "Mode:  0600" in root_file(session.disk, f"stat {path}")
    assert "instance-id" in root_file(session.disk, "cat /var/lib/cloud/seed/nocloud/meta-data")


def test_no_secret_was_shown_by_the_agent(session: Session) -> None:
    console = session.machine.console
    assert "levier: writing the image to vda" in console
    assert session.service.session not in console
    assert session.token not in console


def test_an_ended_session_powers_the_machine_off(session: Session) -> None:
    session.service.end_session()
    session.machine.wait_off(timeout_s=BOOT_S)
    assert "next" in session.service.refused
    assert "the session has ended" in session.machine.console


def test_an_unknown_token_powers_the_machine_off(ramdisk: BuiltRamdisk, tmp_path: Path) -> None:
    with AgentService() as service:
        boot = direct_boot(ramdisk, service, token="never-given")
        with Machine(tmp_path, virtio_disk(sparse(tmp_path / "d", MIB), name="d0"), direct_boot=boot) as machine:
            machine.wait_off(timeout_s=BOOT_S)
        assert service.refused == ["claim"]
        assert service.inventory == {}
    assert "the boot service refuses this machine" in machine.console
    assert "403" in machine.console


def with_short_patience(ramdisk: BuiltRamdisk, target: Path) -> BuiltRamdisk:
    """The same ramdisk whose agent calls a download dead after 4 s instead of 60 s."""
    script = Path(drivers.ramdisk.__file__).with_name("write.sh").read_text()
    changed = target / "levier" / "write.sh"
    changed.parent.mkdir()
    changed.write_text(script.replace("STALL_S=60", "STALL_S=4"))
    assert changed.read_text() != script
    extra = subprocess.check_output(["cpio", "-o", "-H", "newc", "--quiet"], input=b"levier/write.sh\n", cwd=target)
    content = ramdisk.ramdisk_path.read_bytes()
    padding = bytes(-len(content) % 4)  # the kernel takes archives one behind the other, each on a multiple of 4 bytes
    (target / "ramdisk").write_bytes(content + padding + extra)
    return dataclasses.replace(ramdisk, ramdisk_path=target / "ramdisk")


def test_a_silent_connection_and_a_withdrawn_session_end_the_write(ramdisk: BuiltRamdisk, tmp_path: Path) -> None:
    packed = tmp_path / "x"
    packed.write_bytes(hashlib.shake_256(b"s").digest(8 * MIB))
    facts = {"sha256": "0" * 64, "size_bytes": 8 * MIB, "raw_size_bytes": MIB}
    disk = virtio_disk(sparse(tmp_path / "d", SMALL_BYTES), name="d0")
    with AgentService(silent_after_bytes=MIB) as service:
        boot = direct_boot(with_short_patience(ramdisk, tmp_path), service, token=service.token)
        with Machine(tmp_path, disk, direct_boot=boot) as machine:
            service.wait_for(lambda: "claim" in service.times, timeout_s=BOOT_S, what="claim")
            reports = service.outcome(service.order_write("vda", packed, **facts))  # type: ignore[arg-type]
            assert "the image stopped coming: nothing for 4 s after" in reports[-1]["detail"]

            begin = service.order_write("vda", packed, **facts)  # type: ignore[arg-type]
            progressed = lambda: any(report["state"] == "progress" for report in service.reports[begin:])  # noqa: E731
            service.wait_for(progressed, timeout_s=BOOT_S, what="progress")
            service.end_session()
            machine.wait_off(timeout_s=BOOT_S)
    assert not any(report["state"] == "failed" for report in service.reports[begin:])
    assert "the session was ended while the image was being written" in machine.console


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_written_disk_boots_to_the_expected_host(
    session: Session, keys: Keys, tmp_path: Path, firmware: str
) -> None:
    assert session.machine.process is not None
    assert session.machine.process.poll() is not None, "the ramdisk still has the disk"
    disk = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", session.disk, disk], check=True)
    machine = Machine(tmp_path, virtio_disk(disk, name="d0"), uefi=firmware == "uefi", memory_mib=768)
    with machine:
        seconds = machine.wait_ssh(keys.operator, keys.public(keys.host), timeout_s=420)
        print(f"{firmware}: login {seconds:.0f} s after power on")
        seen = machine.ssh(
            keys.operator,
            "hostname; . /etc/os-release; echo $ID-$VERSION_ID; test -d /sys/firmware/efi && echo uefi || echo bios; "
            "cat /sys/class/net/e*/address; df --output=size -B1M / | tail -1; systemctl is-enabled ssh; "
            "stat -c %a /var/lib/cloud/seed/nocloud/user-data; cat /etc/ssh/ssh_host_*_key.pub",
        ).stdout.splitlines()
    assert seen[:4] == ["a1-01", "debian-12", firmware, MAC]
    assert int(seen[4]) > 3500, "the root file system did not grow over the disk"
    assert seen[5:7] == ["enabled", "600"]
    assert [line.split()[:2] for line in seen[7:]] == [keys.public(keys.host).split()[:2]]


def image_raw(image: BuiltImage, target: Path) -> Path:
    subprocess.run(["zstd", "-q", "-d", "--sparse", image.path, "-o", target], check=True)
    return target


def root_offset(raw: Path) -> int:
    listing = subprocess.check_output(["sfdisk", "--list", "-o", "Start", "-q", raw], text=True).split()
    return int(listing[-1]) * 512


def root_file(raw: Path, command: str) -> str:
    """What debugfs(8) answers about the root partition."""
    return subprocess.check_output(
        ["debugfs", "-R", command, f"{raw}?offset={root_offset(raw)}"], stderr=subprocess.DEVNULL, text=True
    )
