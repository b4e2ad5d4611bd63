"""Brings a lab up: files, limits, network, daemon; and takes back what it did when it cannot."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time

from levier.domain.errors import Conflict, DriverError, LevierError, Rejected, Unreachable
from levier.lab.cgroups import MIRROR_GROUP, CgroupTree
from levier.lab.chassis.nspawn import require_nspawn
from levier.lab.chassis.qemu import require_qemu
from levier.lab.control import ask
from levier.lab.layout import Layout
from levier.lab.network import create_network, listening_socket, namespace_path
from levier.lab.sitefile import CREDENTIAL, render_site
from levier.lab.spec import MIRROR_PORT, ChassisKind, RackSpec
from levier.lab.stub.image import require_stub, write_image, write_ramdisk
from levier.lab.sysctl import raise_inotify_limit
from levier.lab.teardown import leftovers, take_down

_USER = "admin"
_READY_S = 30.0
_POLL_S = 0.05
# IPMI 2.0 passwords are at most 20 bytes long; 16 are valid for IPMI 1.5, too (section 22.30).
_PASSWORD_SIZE = 16
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def bring_up(spec: RackSpec, layout: Layout) -> None:
    """The lab is up: BMCs answer, the site file and the credentials are written, all machines are off.

    Raises Conflict when something of a lab of that name is there; nothing was changed then. Raises NotFound when a
    program is missing. Any other failure leaves nothing behind.
    """
    _require_means(spec)
    if found := leftovers(spec.name, layout):
        raise Conflict(
            f"the lab {spec.name} is up or was not taken down: {'; '.join(found)}",
            hint=f"run `levier lab down --name {spec.name}` first, or `levier lab up --replace`",
        )
    if spec.stub:
        _require_free_ports(spec)
    try:
        _write_files(spec, layout)
        if spec.stub:
            write_image(layout.image)
            write_ramdisk(layout.ramdisk)
        else:
            _prepare_kernel(spec)
        if spec.mirror:
            _start_mirror(spec, layout)
        _start_daemon(spec, layout)
    except (LevierError, OSError):
        take_down(spec.name, layout)
        raise


def _require_means(spec: RackSpec) -> None:
    """The chassis has the programs and the rights that it needs. Raises NotFound, Rejected."""
    if spec.stub:
        require_stub()
        return
    if os.geteuid() != 0:
        raise Rejected(
            "a lab of this chassis needs root: it makes namespaces, tap devices and mounts",
            hint="run it with sudo, or take --chassis stub, which needs none",
        )
    if ChassisKind.QEMU in spec.kinds:
        require_qemu(spec.firmware)
    if ChassisKind.NSPAWN in spec.kinds:
        require_nspawn()


def _require_free_ports(spec: RackSpec) -> None:
    """No other rack's BMCs listen where those of this one will: on this computer's own loopback interface."""
    for node in spec.nodes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((node.bmc_address, node.bmc_port))
            except OSError as error:
                raise Conflict(
                    f"UDP port {node.bmc_port} of {node.bmc_address} cannot be had: {error.strerror}",
                    hint="take the other rack down, or choose --bmc-port, --ssh-port and --boot-port for this one",
                ) from error


def _prepare_kernel(spec: RackSpec) -> None:
    if containers := spec.of_kind(ChassisKind.NSPAWN):
        raise_inotify_limit(spec.name, nodes=len(containers))
    create_network(spec)


def _write_files(spec: RackSpec, layout: Layout) -> None:
    layout.root.mkdir(parents=True, exist_ok=True)
    # First of all: from now on `lab down` knows what there is to take down.
    layout.spec.write_text(spec.to_json(), encoding="utf-8")
    for node in spec.nodes:
        layout.node(node.name).mkdir(parents=True, exist_ok=True)
        layout.console(node.name).touch()
        layout.disk(node.name).touch(mode=0o600)
        os.truncate(layout.disk(node.name), node.disk_gib << 30)
    password = "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_SIZE))
    layout.credentials.touch(mode=0o600)
    layout.credentials.write_text(json.dumps({CREDENTIAL: {"username": _USER, "password": password}}), encoding="utf-8")
    layout.site.write_text(render_site(spec), encoding="utf-8")


def _start_daemon(spec: RackSpec, layout: Layout) -> None:
    """The daemon answers on the control socket."""
    with layout.daemon_log.open("ab") as log:
        daemon = subprocess.Popen(
            _daemon_command(spec, [sys.executable, "-m", "levier.lab.daemon", "--dir", str(layout.root)]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    deadline = time.monotonic() + _READY_S
    while not _answers(layout):
        if daemon.poll() is not None or time.monotonic() > deadline:
            tail = layout.daemon_log.read_text(encoding="utf-8", errors="replace")[-800:]
            raise Unreachable(f"the lab's daemon did not come up: {tail}")
        time.sleep(_POLL_S)


def _start_mirror(spec: RackSpec, layout: Layout) -> None:
    """Machines can connect to the package mirror: what they ask waits until its process, outside, is ready."""
    cgroups = CgroupTree(spec.name)
    cgroups.create(MIRROR_GROUP)
    with (
        listening_socket(spec.namespace, (str(spec.server), MIRROR_PORT)) as listening,
        layout.mirror_log.open("ab") as log,
    ):
        descriptor = listening.fileno()
        subprocess.Popen(
            cgroups.inside(MIRROR_GROUP, [sys.executable, "-m", "levier.lab.packages.mirror", "--fd", str(descriptor)]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )


def _environment() -> dict[str, str]:
    """Processes of the lab import what this one imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def _daemon_command(spec: RackSpec, argv: list[str]) -> list[str]:
    """How the daemon is started: in the lab's control group and namespace, where it has them."""
    if spec.stub:
        return argv
    cgroups = CgroupTree(spec.name)
    cgroups.create("daemon")
    # nsenter and not `ip netns exec`, which would hide the cgroup file systems.
    return cgroups.inside("daemon", ["nsenter", f"--net={namespace_path(spec.namespace)}", *argv])


def _answers(layout: Layout) -> bool:
    try:
        ask(layout.control, {"op": "status"}, timeout_s=5)
    except DriverError:
        return False
    return True
