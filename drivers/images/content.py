"""What the image build adds to the packages: a few files, and services switched on or off."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

from jinja2 import Environment, StrictUndefined
from ruamel.yaml import YAML

from drivers.artifacts.command import isolated, run_tool
from levier.domain.errors import MalformedReply

_ENVIRONMENT = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - no HTML

# Timers that change a host behind its operator's back, or only burn time on a machine without such hardware.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-binfmt.service",
    "systemd-pstore.service",
)
# These stages have nothing left to do, yet start Python twice at the moment the first SSH session comes in.
_POLITE = "[Service]\nNice=19\n"
_UNITS = (PurePosixPath("/lib/systemd/system"), PurePosixPath("/usr/lib/systemd/system"))
_STARTED = (".service", ".socket", ".timer", ".path", ".target")
_ENABLED = ("systemd-networkd.service", "systemd-timesyncd.service", "ssh.service")


@dataclass(frozen=True, slots=True)
class DefaultMirrors:
    """The distribution's own choice of package mirrors, as its cloud-init package states it."""

    primary: str
    security: str


def render(template: str, values: Mapping[str, str]) -> str:
    """The packaged template `template` filled in; an unknown name in it is an error."""
    source = files("drivers.images").joinpath(template).read_text(encoding="utf-8")
    return _ENVIRONMENT.from_string(source).render(values)


def default_mirrors(cloud_cfg: str) -> DefaultMirrors:
    """The mirrors in the distribution's cloud.cfg. Raises MalformedReply when it states none."""
    try:
        entries = YAML(typ="safe").load(cloud_cfg)["system_info"]["package_mirrors"]
        failsafe = next(entry["failsafe"] for entry in entries if "default" in entry["arches"])
        return DefaultMirrors(primary=failsafe["primary"], security=failsafe["security"])
    except (KeyError, TypeError, StopIteration) as error:
        raise MalformedReply("the distribution's cloud.cfg names no default package mirror") from error


def sources(suite: str, mirrors: DefaultMirrors) -> str:
    """sources.list(5) in deb822 form for a host of the release `suite`."""
    return "".join(
        f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        for uri, suites in ((mirrors.primary, f"{suite} {suite}-updates"), (mirrors.security, f"{suite}-security"))
    )


def furnish(root: Path, *, suite: str, root_uuid: str) -> None:
    """The unpacked system below `root` is what the image holds. May be repeated."""
    mirrors = default_mirrors((root / "etc/cloud/cloud.cfg").read_text(encoding="utf-8"))
    for path, text in _added_files(suite, root_uuid, mirrors).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for stray in (
        "etc/apt/sources.list",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/apt/apt.conf.d/99mmdebstrap",
        "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed",
    ):
        (root / stray).unlink(missing_ok=True)
    for pattern in ("etc/ssh/ssh_host_*", "var/log/*.log", "var/cache/ldconfig/*"):
        for left_over in root.glob(pattern):
            left_over.unlink()
    run_tool(isolated(["systemctl", "--quiet", f"--root={root}", "enable", *_ENABLED]), timeout_s=60)
    run_tool(isolated(["systemctl", "--quiet", f"--root={root}", "mask", *_MASKED]), timeout_s=60)
    _stop_waiting_for_network(root)
    _mark_updated(root)


def keep_still(root: Path, packages: Iterable[str]) -> None:
    """No service of `packages` starts when a host boots: it has not been configured yet. May be repeated."""
    units: set[str] = set()
    for package in packages:
        for listing in (root / "var/lib/dpkg/info").glob(f"{package}[.:]*list"):
            paths = map(PurePosixPath, listing.read_text(encoding="utf-8").splitlines())
            units |= {path.name for path in paths if path.parent in _UNITS and path.suffix in _STARTED}
    present = sorted(unit for unit in units if "@." not in unit)
    if present:
        run_tool(isolated(["systemctl", "--quiet", f"--root={root}", "disable", *present]), timeout_s=60)


def _added_files(suite: str, root_uuid: str, mirrors: DefaultMirrors) -> dict[str, str]:
    return {
        "boot/grub/grub.cfg": render("grub.cfg.j2", {"root_uuid": root_uuid}),
        "etc/apt/sources.list.d/debian.sources": sources(suite, mirrors),
        "etc/cloud/cloud.cfg.d/90_levier.cfg": render("cloud_init.yaml", {}),
        "etc/cloud/ds-identify.cfg": "policy: enabled\n",
        "etc/fstab": f"UUID={root_uuid} / ext4 errors=remount-ro,discard,x-systemd.growfs 0 1\n",
        "etc/kernel-img.conf": "do_symlinks = yes\n",
        # Empty, not missing: every host gets its own on first boot, without systemd's first-boot questions.
        "etc/machine-id": "",
        # The root partition takes all of the disk that is free behind it, at every boot (repart.d(5)).
        "etc/repart.d/50-root.conf": "[Partition]\nType=root-x86-64\n",
        "etc/ssh/sshd_config.d/10-levier.conf": render("sshd.conf.j2", {}),
        "etc/systemd/system/cloud-config.service.d/levier.conf": _POLITE,
        "etc/systemd/system/cloud-final.service.d/levier.conf": _POLITE,
        # Whoever starts a container has mounted its root already, and the device is not visible inside.
        "etc/systemd/system/systemd-remount-fs.service.d/levier.conf": "[Unit]\nConditionVirtualization=!container\n",
        "etc/systemd/system/systemd-networkd.service.d/levier.conf": render("networkd.conf.j2", {}),
        "etc/systemd/system/systemd-networkd-wait-online.service.d/levier.conf": render("wait_online.conf.j2", {}),
    }


def _stop_waiting_for_network(root: Path) -> None:
    """cloud-init's second stage, and sshd behind it, start without the network: all it reads is on the disk.

    An order between units cannot be taken back by a drop-in, so the distribution's unit is repeated without that line.
    Under software emulation this saves two seconds of every boot.
    """
    for unit in ("cloud-init.service", "cloud-init-network.service"):
        original = root / "usr/lib/systemd/system" / unit
        if original.exists():
            lines = original.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.strip() != "After=systemd-networkd-wait-online.service"]
            (root / "etc/systemd/system" / unit).write_text("".join(kept), encoding="utf-8")


def _mark_updated(root: Path) -> None:
    """systemd sees nothing new in /usr, so the first boot rebuilds no caches (systemd-update-done.service(8))."""
    stamp = (root / "usr").stat().st_mtime_ns
    for directory in ("etc", "var"):
        path = root / directory / ".updated"
        path.write_text(f"# Written by Levier's image build.\nTIMESTAMP_NSEC={stamp}\n", encoding="utf-8")
        os.utime(path, ns=(stamp, stamp))
