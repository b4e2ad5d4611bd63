"""The agent's shell functions, run by the very shell that runs them on a node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import drivers.ramdisk

SCRIPTS = Path(drivers.ramdisk.__file__).parent


def shell(code: str, *, source: str) -> str:
    """What `code` prints after the script `source` was read."""
    done = subprocess.run(
        ["/bin/busybox", "sh", "-c", f'. "{SCRIPTS}/{source}.sh"; {code}'], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_scripts_are_clean(script: str) -> None:
    done = subprocess.run(["shellcheck", SCRIPTS / script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_answers_keep_everything_behind_the_first_equals_sign(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_bytes(b"action=write\r\nimage_url=http://b/i?x=1\nactions=no\naction=second\n")
    assert shell(f"answer_value action {answer}", source="http") == "write\n"
    assert shell(f"answer_value image_url {answer}", source="http") == "http://b/i?x=1\n"
    assert shell(f"answer_value reason {answer}", source="http") == ""


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("wget: server returned error: HTTP/1.1 403 Forbidden", 2),
        ("wget: server returned error: HTTP/1.0 401 Unauthorized", 2),
        ("wget: server returned error: HTTP/1.1 404 Not Found", 3),
        ("wget: can't connect to remote host (10.0.0.1): Connection refused", 1),
        ("", 1),
    ],
)
def test_a_refusal_is_told_from_a_lost_connection(tmp_path: Path, error: str, outcome: int) -> None:
    script = (SCRIPTS / "http.sh").read_text().replace("/run/", f"{tmp_path}/")
    (tmp_path / "http.sh").write_text(script)
    (tmp_path / "http.error").write_text(error)
    code = f'. "{tmp_path}/http.sh"; _http_outcome 1; echo $?; http_cause'
    done = subprocess.run(["/bin/busybox", "sh", "-c", code], capture_output=True, text=True, timeout=20)
    status, _, cause = done.stdout.partition("\n")
    assert int(status) == outcome
    assert cause == (error.removeprefix("wget: ") or "no answer within 60 s")


def memory_device(size: int, *, extended_mib: int = 0) -> bytes:
    """An SMBIOS type 17 structure (DMTF DSP0134, 7.18) of 40 bytes with one string."""
    body = bytearray(40)
    body[0:4] = bytes((17, 40, 0, 17))
    body[12:14] = size.to_bytes(2, "little")
    body[28:32] = extended_mib.to_bytes(4, "little")
    return bytes(body) + b"DIMM 0\0\0"


@pytest.mark.parametrize(
    ("table", "mib"),
    [
        ([memory_device(512)], 512),
        ([memory_device(16384), memory_device(0), memory_device(16384)], 32768),
        ([memory_device(32767, extended_mib=65536)], 65536),
        ([memory_device(0xFFFF), memory_device(0x8000 | 2048)], 2),
        ([bytes((1, 4, 0, 1)) + b"\0\0", memory_device(1024)], 1024),
    ],
)
def test_installed_memory_is_the_sum_of_the_modules(tmp_path: Path, table: list[bytes], mib: int) -> None:
    end = bytes((127, 4, 0, 127)) + b"\0\0"
    (tmp_path / "DMI").write_bytes(b"".join(table) + end)
    script = (SCRIPTS / "inventory.sh").read_text().replace("/sys/firmware/dmi/tables/DMI", f"{tmp_path}/DMI")
    (tmp_path / "inventory.sh").write_text(script)
    done = subprocess.run(
        ["/bin/busybox", "sh", "-c", f'. "{tmp_path}/inventory.sh"; memory_mib'],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert int(done.stdout) == mib


def test_without_a_firmware_table_the_kernels_count_serves(tmp_path: Path) -> None:
    script = (SCRIPTS / "inventory.sh").read_text().replace("/sys/firmware/dmi/tables/DMI", f"{tmp_path}/none")
    (tmp_path / "inventory.sh").write_text(script)
    done = subprocess.run(
        ["/bin/busybox", "sh", "-c", f'. "{tmp_path}/inventory.sh"; memory_mib'],
        capture_output=True,
        text=True,
        timeout=20,
    )
    total_kib = next(
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    assert int(done.stdout) == total_kib // 1024
