"""The lab's network: one namespace with a bridge, and a port for every machine."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from levier.domain.errors import Conflict, Rejected
from levier.lab.commands import run_program
from levier.lab.spec import BRIDGE, SERVER, ChassisKind, RackSpec

SERVER_V6 = "fd77::1/64"
_CARRIER = ("prov-carrier", "prov-peer")
_NAMESPACES = Path("/run/netns")
_POLL_S = 0.02
_CLONE_NEWNET = 0x40000000  # setns(2), linux/sched.h


def namespace_path(namespace: str) -> Path:
    """The file that stands for the namespace."""
    return _NAMESPACES / namespace


def namespace_exists(namespace: str) -> bool:
    """Whether there is a network namespace of that name."""
    return namespace_path(namespace).exists()


def tap_name(index: int) -> str:
    """The name of the tap device of the node with that position (device names are at most 15 characters)."""
    return f"tap{index}"


def create_network(spec: RackSpec) -> None:
    """The namespace has loopback, the bridge with the server's address and a tap device for each QEMU machine.

    Raises Conflict when the namespace exists.
    """
    namespace = spec.namespace
    if namespace_exists(namespace):
        raise Conflict(f"network namespace {namespace} exists already", hint=_way_out(spec.name))
    run_program(["ip", "netns", "add", namespace])
    run_program(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(_network_batch(spec)) + "\n")
    for device in (BRIDGE, *_CARRIER):
        without_checksum_offload(namespace, device)


def without_checksum_offload(namespace: str, device: str) -> None:
    """The device computes transmit checksums itself: over veth, UDP and TCP arrive broken otherwise."""
    run_program(["nsenter", f"--net={namespace_path(namespace)}", "ethtool", "-K", device, "tx", "off"])


def add_port(namespace: str, port: str, *, peer: str, timeout_s: float = 10.0) -> None:
    """The bridge has a veth port of that name whose other end is `peer` (name and options as of ip-link(8)).

    A port of the machine's boot before, whose namespace the kernel is still tidying up, is replaced.
    """
    deadline = time.monotonic() + timeout_s
    batch = f"link add {port} type veth peer name {peer}\nlink set {port} master {BRIDGE} up\n"
    while True:
        try:
            run_program(["ip", "-n", namespace, "-batch", "-"], stdin=batch)
        except Rejected as error:
            if "File exists" not in str(error) or time.monotonic() > deadline:
                raise
            _delete_device(namespace, port)
        else:
            return


def _delete_device(namespace: str, device: str) -> None:
    try:
        run_program(["ip", "-n", namespace, "link", "delete", device])
    except Rejected:
        time.sleep(_POLL_S)  # gone meanwhile, or just going: the caller looks again


def _network_batch(spec: RackSpec) -> list[str]:
    outer, inner = _CARRIER
    lines = [
        "link set lo up",
        # No multicast snooping, no forward delay: a port that comes up carries DHCP at once.
        f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"address add {SERVER}/{spec.network.prefixlen} brd + dev {BRIDGE}",
        # Lets the DHCP server advertise a router: without an advertisement iPXE waits 13 s (measured: 19 s → 6 s).
        f"address add {SERVER_V6} dev {BRIDGE} nodad",
        # A pair that is always up: otherwise the bridge has no carrier, and so no IPv6 address to advertise a
        # router from, until the first machine has started.
        f"link add {outer} type veth peer name {inner}",
        f"link set {inner} up",
        f"link set {outer} master {BRIDGE} up",
        f"link set {BRIDGE} up",
    ]
    for index, node in enumerate(spec.nodes):
        if node.chassis is ChassisKind.QEMU:
            lines += [f"tuntap add dev {tap_name(index)} mode tap", f"link set {tap_name(index)} master {BRIDGE} up"]
    return lines


def delete_network(namespace: str, *, timeout_s: float = 20.0) -> None:
    """The namespace and its devices are gone. Safe to repeat. Its processes must have ended before."""
    if not namespace_exists(namespace):
        return
    run_program(["ip", "netns", "delete", namespace])
    deadline = time.monotonic() + timeout_s
    while namespace_exists(namespace):
        if time.monotonic() > deadline:
            raise Conflict(f"network namespace {namespace} does not go away", hint="see `ip netns pids`")
        time.sleep(_POLL_S)


def listening_socket(namespace: str, address: tuple[str, int]) -> socket.socket:
    """A TCP socket that listens inside the namespace; whoever holds it serves there, wherever it is itself.

    A thread of its own enters the namespace, makes it and ends. Raises Rejected when the address cannot be had.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            return thread.submit(_listen_inside, namespace_path(namespace), address).result()
        except OSError as error:
            raise Rejected(f"{address[0]} port {address[1]} cannot be had in {namespace}: {error.strerror}") from error


def _listen_inside(namespace: Path, address: tuple[str, int]) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return socket.create_server(address, backlog=1024)
    finally:
        os.close(fd)


def foreign_pids(namespace: str) -> list[int]:
    """Processes that are in the namespace, whoever started them."""
    if not namespace_exists(namespace):
        return []
    return [int(pid) for pid in run_program(["ip", "netns", "pids", namespace]).split()]


def neighbours(namespace: str) -> dict[str, str]:
    """The address that answered last from each MAC on the bridge; empty when the namespace is gone."""
    try:
        raw = run_program(["ip", "-n", namespace, "-4", "-json", "-s", "neighbour", "show", "dev", BRIDGE])
    except Rejected:
        return {}
    usable = [entry for entry in json.loads(raw or "[]") if "lladdr" in entry and "FAILED" not in entry["state"]]
    # `confirmed` counts the seconds since the address answered: a machine's earlier ones linger for a while.
    oldest_first = sorted(usable, key=lambda entry: int(entry.get("confirmed", 0)), reverse=True)
    return {entry["lladdr"]: entry["dst"] for entry in oldest_first}


def _way_out(name: str) -> str:
    return f"take the earlier lab down with `levier lab down --name {name}`, or use `levier lab up --replace`"
