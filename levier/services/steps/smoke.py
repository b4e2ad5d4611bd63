"""Steps of the smoke test: prepared, a server on every compute host, checked, and all of it removed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from openstack.connection import Connection

from drivers.openstack import consoles, images, networks, projects, servers, volumes
from drivers.openstack.connection import service_failed
from drivers.openstack.images import ImageSpec
from drivers.openstack.networks import NetworkSpec
from drivers.openstack.servers import ServerSpec, ServerState
from drivers.openstack.sweeping import COMPUTE, IMAGE, NETWORK, VOLUME
from levier.domain import install_plan, smoke
from levier.domain.errors import (
    AuthFailed,
    Busy,
    Conflict,
    LevierError,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unreachable,
)
from levier.domain.operation import JsonMap
from levier.domain.smoke import Check, GuestReport, lacking, read_console, unreached
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext, NodeStep
from levier.services.polling import wait_for, wait_on
from levier.services.smoke import SmokeTest
from levier.services.steps.unplaced import await_service, not_placed, room_in_words, why_full, why_not_placed

ACTIVE_S = 600.0
GUEST_S = 420.0
"""From ACTIVE to everything said, where the server is emulated on a busy host; an emulated host has longer."""
VOLUME_S = 180.0
REMOVED_S = 300.0
"""From the last time that less was left than before, in the undo too: a hundred servers take longer than one."""
UNDONE_S = 180.0
_SHOWN = 10
_PROXY_PORT = 6080
_COMMAND_LINE = "console=tty0 console=ttyS0 quiet no_timer_check mitigations=off"
_EMPTY_DISK = bytes(1 << 20)
_SILENT = (Unreachable, OutcomeUnknown, Busy, AuthFailed, NotFound)
"""How a cloud that is half dead answers; or with a status of 5xx."""


def _silence(error: LevierError) -> str:
    """Why a cloud that is half dead keeps what there is. Raises the error when it is the answer of one that is well."""
    if isinstance(error, _SILENT) or service_failed(error):
        return str(error)
    raise error


# --- prepare ---------------------------------------------------------------------------------------------------------


def _remove_all(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
    """Nothing of the test is in the cloud; what a cloud that does not answer keeps is told."""
    try:
        swept = SmokeTest(ctx).remove(timeout_s=UNDONE_S, check=ctx.guard)
    except LevierError as error:
        return {"removed": [], "left": [f"whatever there is: {_silence(error)}"]}
    return {"removed": list(swept.removed), "left": list(swept.left)}


@step(name=install_plan.SMOKE_PREPARE, title="Prepare the smoke test", undo=_remove_all)
def prepare(ctx: NodeContext) -> JsonMap:
    """A project with image, flavour, key pair, network, router and a port per compute host exists. Safe to repeat."""
    test = SmokeTest(ctx)
    with test.admin() as cloud:
        project = projects.ensure_project(cloud, test.name, description=f"Levier's smoke test in {ctx.operation}")
        present = {service: service in test.services for service in (COMPUTE, NETWORK, VOLUME)}
        projects.ensure_quota(cloud, project, _quota(len(test.scope.hosts)), services=present)
        earlier = [each for each in projects.projects_named(cloud, smoke.PREFIX) if each != test.name]
    outputs: JsonMap = {"project": project, "token": "ok", "not_checked": dict(test.scope.not_there)}
    if earlier:
        outputs = {**outputs, "left_by_earlier_tests": earlier}
    with test.own() as cloud:
        if IMAGE in test.services:
            outputs = {**outputs, **_upload(test, cloud, project)}
        if COMPUTE in test.services and test.scope.hosts:
            outputs = {**outputs, **_make_surroundings(test, cloud, project)}
    return outputs


def _quota(hosts: int) -> projects.Quota:
    return projects.Quota(
        servers=hosts,
        memory_mib=hosts * smoke.SERVER_NEEDS["MEMORY_MB"],
        volumes=hosts,
        volumes_gib=hosts * smoke.VOLUME_GIB,
        ports=hosts + 32,
    )


def _upload(test: SmokeTest, cloud: Connection, project: str) -> JsonMap:
    """Kernel, ramdisk and a disk that is empty; the ramdisk comes back as it was sent."""
    guest = test.guest()
    kernel, ramdisk = guest.kernel_path.read_bytes(), guest.ramdisk_path.read_bytes()
    parts = {
        kind: images.ensure_image(cloud, project, ImageSpec(f"{test.name}-{kind}", kind, content), tag=test.name)
        for kind, content in (("aki", kernel), ("ari", ramdisk))
    }
    if images.download(cloud, parts["ari"]) != ramdisk:
        raise Rejected("glance gives back another image than it was given", hint="see glance's log on its host")
    properties = {
        "kernel_id": parts["aki"],
        "ramdisk_id": parts["ari"],
        "os_command_line": _COMMAND_LINE,
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
    }
    images.ensure_image(cloud, project, ImageSpec(test.name, "ami", _EMPTY_DISK, properties), tag=test.name)
    size = sum(len(each) for each in (kernel, ramdisk, _EMPTY_DISK))
    return {"image": "given back as it was sent", "images_mib": round(size / 2**20, 1)}


def _make_surroundings(test: SmokeTest, cloud: Connection, project: str) -> JsonMap:
    needs = smoke.SERVER_NEEDS
    servers.ensure_flavor(cloud, test.name, memory_mib=needs["MEMORY_MB"], disk_gib=needs["DISK_GB"])
    servers.ensure_key_pair(cloud, test.name, public_key=test.ctx.services.login_key()[1])
    router = test.ctx.cloud.view(test.ctx.site).runs(smoke.ROUTER)
    spec = NetworkSpec(test.name, str(smoke.CIDR), smoke.GATEWAY, smoke.POOL, router=router)
    made = networks.ensure_network(cloud, project, spec)
    addresses = smoke.server_addresses(test.scope.hosts)
    named = {smoke.server_name(test.ctx.operation, host): address for host, address in addresses.items()}
    networks.ensure_ports(cloud, project, made, named, tag=test.name)
    return {"network": made.network, "router": made.router, "addresses": addresses}


# --- servers ---------------------------------------------------------------------------------------------------------


def _remove_server(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
    """The host has no server of the test; what a cloud that does not answer keeps is told."""
    test = SmokeTest(ctx)
    try:
        with test.admin() as cloud:
            project = projects.find_project(cloud, test.name)
            gone = project is None or _server_gone(test, cloud, project, check=ctx.guard)
    except LevierError as error:
        return {"left": [f"server {test.own_name}: {_silence(error)}"]}
    return {"left": [] if gone else [f"server {test.own_name}"]}


def _server_gone(test: SmokeTest, cloud: Connection, project: str, *, check: Callable[[], None]) -> bool:
    def look() -> bool:
        return not servers.delete_servers(cloud, project, name=test.own_name)

    return wait_for(look, timeout_s=UNDONE_S, check=check) is not None


@step(name=install_plan.SMOKE_SERVER, title="Boot a server on this host", undo=_remove_server)
def server(ctx: NodeContext) -> JsonMap:
    """A server runs on exactly this host and has its address, or nova rightly places none there, which is told.

    Safe to repeat: one in error is replaced.
    """
    test, began = SmokeTest(ctx), time.monotonic()
    with test.own() as cloud:
        project = _project(test, cloud)
        if why := await_service(test, cloud):
            return not_placed(why)
        state = _await_built(test, cloud, _ensure_server(test, cloud, project))
        if why := why_full(test, cloud, state):
            return not_placed(why)
        outputs: JsonMap = {"server": _on_this_host(test, cloud, state).id, "not_checked": test.not_checked}
        outputs = {**outputs, "active_after_s": round(time.monotonic() - began, 1)}
        if test.scope.covers(ctx.name, Check.ADDRESS):
            report = _await_guest(test, cloud, state.id, lambda report: _without_address(test, report))
            outputs = {**outputs, "address": report.address, "mtu": report.mtu}
            outputs = {**outputs, "address_after_s": round(time.monotonic() - began, 1)}
    return outputs


def _without_address(test: SmokeTest, report: GuestReport) -> Sequence[str]:
    return () if report.address else lacking(report, test.scope, test.ctx.name, alive=())


def _project(test: SmokeTest, cloud: Connection) -> str:
    if cloud.current_project_id is None:
        raise Conflict("the smoke test was not prepared", hint="do not skip one of its steps: skip all or none")
    return str(cloud.current_project_id)


def _ensure_server(test: SmokeTest, cloud: Connection, project: str) -> str:
    for found in servers.servers_of(cloud, project, name=test.own_name):
        if found.status != servers.ERROR:
            return found.id
        if not _server_gone(test, cloud, project, check=test.ctx.check):
            raise Busy(f"the server of an earlier attempt on {test.ctx.name} is still being deleted")
    return servers.create_server(cloud, _server_spec(test, cloud, project))


def _server_spec(test: SmokeTest, cloud: Connection, project: str) -> ServerSpec:
    image = next((i for i in images.images_of(cloud, project) if i.name == test.name), None)
    flavor = cloud.compute.find_flavor(test.name)
    port = networks.find_port(cloud, project, test.own_name)
    if image is None or flavor is None or port is None:
        raise Conflict("the smoke test was not prepared", hint="do not skip one of its steps: skip all or none")
    addresses = smoke.server_addresses(test.scope.hosts)
    peers = [addresses[each] for each in smoke.peers_of(test.scope, test.ctx.name)]
    return ServerSpec(
        name=test.own_name,
        host=test.ctx.name,
        image=str(image.id),
        flavor=str(flavor.id),
        key_pair=test.name,
        port=port,
        user_data=smoke.user_data(peers),
        tag=test.name,
    )


def _await_built(test: SmokeTest, cloud: Connection, identity: str) -> ServerState:
    """The server, ACTIVE or in ERROR. Raises Rejected when it is neither in time."""
    states: list[ServerState] = []

    def look() -> bool:
        states.append(servers.server_state(cloud, identity))
        return states[-1].status in (servers.ACTIVE, servers.ERROR)

    waited = wait_on(test.ctx.own_host(), look, timeout_s=ACTIVE_S, check=test.ctx.check)
    if waited.seconds is None:
        raise _not_active(test, states[-1], f"is still {states[-1].status} after {waited.limit_s:.0f} s")
    return states[-1]


def _on_this_host(test: SmokeTest, cloud: Connection, state: ServerState) -> ServerState:
    """The server is ACTIVE on the step's host. Raises Rejected with nova's fault."""
    if state.status == servers.ERROR:
        raise _not_active(test, state, f"is in ERROR{room_in_words(test, cloud, state)}")
    if state.host != test.ctx.name:
        raise Rejected(f"the server for {test.ctx.name} runs on {state.host}", hint="see nova-scheduler's journal")
    return state


def _not_active(test: SmokeTest, state: ServerState, what: str) -> Rejected:
    host = test.ctx.name
    return Rejected(
        f"the server on {host} {what}: {state.fault or 'nova names no fault'}; on {host}: {test.journal()}",
        hint=f"on {host}: journalctl -u levier-nova-compute; 'no valid host': journalctl -u levier-nova-scheduler",
    )


def _await_guest(
    test: SmokeTest,
    cloud: Connection,
    server: str,
    lacks: Callable[[GuestReport], Sequence[str]],
    suffices: Callable[[GuestReport], bool] = lambda _: False,
) -> GuestReport:
    """What the server has said, once it lacks nothing, or when what it has said in time suffices.

    Raises Rejected with what is missing and its last words.
    """
    text, report, missing = "", GuestReport(), tuple[str, ...]()

    def look() -> bool:
        nonlocal text, report, missing
        text = consoles.console_text(cloud, server)
        report = read_console(text)
        missing = tuple(lacks(report))
        return not missing

    waited = wait_on(test.ctx.own_host(), look, timeout_s=GUEST_S, check=test.ctx.check)
    if waited.seconds is None and not suffices(report):
        words = " | ".join(line.strip() for line in text.splitlines()[-6:]) or "nothing"
        raise Rejected(
            f"the server on {test.ctx.name}: {'; '.join(missing)}, after {waited.limit_s:.0f} s. "
            f"Its console says: {words[-800:]}",
            hint=f"openstack console log show {test.own_name}; see docs/smoke-test.md",
        )
    return report


# --- checks ----------------------------------------------------------------------------------------------------------


def _remove_volume(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
    """There is no volume for the host's server; what a cloud that does not answer keeps is told."""
    test = SmokeTest(ctx)
    if not test.scope.covers(ctx.name, Check.VOLUME):
        return {"left": []}
    try:
        with test.admin() as cloud:
            project = projects.find_project(cloud, test.name)

            def look() -> bool:
                return project is None or not volumes.delete_volumes(cloud, project, name=test.own_name)

            gone = wait_for(look, timeout_s=UNDONE_S, check=ctx.guard) is not None
    except LevierError as error:
        return {"left": [f"volume {test.own_name}: {_silence(error)}"]}
    return {"left": [] if gone else [f"volume {test.own_name}"]}


@step(name=install_plan.SMOKE_CHECK, title="Check this host's server", undo=_remove_volume)
def check(ctx: NodeContext) -> JsonMap:
    """The server reaches what it is to reach, has had a volume, and its screen was seen. Safe to repeat.

    Where nova rightly placed none, that is told.
    """
    if why := why_not_placed(ctx):
        return not_placed(why)
    test, began = SmokeTest(ctx), time.monotonic()
    scope, outputs = test.scope, dict[str, object](not_checked=test.not_checked)
    with test.own() as cloud:
        own = next(iter(servers.servers_of(cloud, _project(test, cloud), name=test.own_name)), None)
        if own is None:
            raise Conflict(f"there is no server on {ctx.name}", hint="do not skip one of its steps: skip all or none")
        if scope.covers(ctx.name, Check.ADDRESS):
            peers = _Peers(test, cloud)
            outputs |= peers.told(_await_guest(test, cloud, own.id, peers.lacking, peers.suffice))
        if scope.covers(ctx.name, Check.SCREEN):
            outputs["screen"] = _screen(test, cloud, own.id)
        if scope.covers(ctx.name, Check.VOLUME):
            outputs["volume"] = _volume(test, cloud, own.id)
    return {**outputs, "seconds": round(time.monotonic() - began, 1)}


class _Peers:
    """The other hosts' servers, as far as they run: of a host that falls out meanwhile it goes with the host."""

    def __init__(self, test: SmokeTest, cloud: Connection) -> None:
        self._test, self._cloud = test, cloud
        self._alive = frozenset(test.scope.hosts)

    def lacking(self, report: GuestReport) -> tuple[str, ...]:
        """What the server has not said. Who is there is asked only where somebody is not reached: it is load."""
        scope, host = self._test.scope, self._test.ctx.name
        if (own := lacking(report, scope, host, alive=())) or not unreached(report, scope, host):
            return own
        self._alive = self._look()
        return lacking(report, scope, host, alive=self._alive)

    def _look(self) -> frozenset[str]:
        active = servers.active_servers(self._cloud, _project(self._test, self._cloud))
        operation = self._test.ctx.operation
        return frozenset(h for h in self._test.scope.hosts if smoke.server_name(operation, h) in active)

    def suffice(self, report: GuestReport) -> bool:
        """All is well but for a few others, whose fault it will be."""
        scope, host = self._test.scope, self._test.ctx.name
        own = lacking(report, scope, host, alive=())
        return not own and smoke.reaches_enough(report, scope, host, alive=self._alive)

    def told(self, report: GuestReport) -> JsonMap:
        """For the result: who was reached, who was not, and who had no server to be reached."""
        scope, host = self._test.scope, self._test.ctx.name
        missed = unreached(report, scope, host, alive=self._alive)
        absent = smoke.without_server(report, scope, host, alive=self._alive)
        reached = {address: words for address, words in report.peers.items() if words == smoke.REACHED}
        left_out = dict(self._test.not_checked)
        if absent and not reached and not missed:
            left_out[Check.PEERS.value] = f"no server runs on {', '.join(absent)}"
        told: JsonMap = {"address": report.address, "peers": reached, "not_checked": left_out}
        told = {**told, "unreached": missed} if missed else told
        return {**told, "without_server": list(absent)} if absent else told


def _screen(test: SmokeTest, cloud: Connection, server: str) -> str:
    proxy = test.ctx.cloud.view(test.ctx.site).hosts_with(smoke.VNC)[0]
    screen = consoles.look_at_screen(proxy.reached_at(), _PROXY_PORT, consoles.screen_path(cloud, server))
    return f"{screen.width}x{screen.height} {screen.name}"


def _volume(test: SmokeTest, cloud: Connection, server: str) -> str:
    """The server wrote to a volume and read it back; it is detached, and being deleted."""
    project = _project(test, cloud)

    def none_is_going() -> bool:
        present = volumes.volumes_of(cloud, project, name=test.own_name)
        return all(each.status != volumes.DELETING for each in present)

    _await_volume(test, none_is_going, "of an earlier attempt is still being deleted")
    volume = volumes.ensure_volume(cloud, project, test.own_name, size_gib=smoke.VOLUME_GIB)
    _try_volume(test, cloud, server, volume)
    # Here all hosts do so at once; that it is gone is seen by the last step, which needs not ask for it any more.
    volumes.delete_volumes(cloud, project, name=test.own_name)
    return f"{smoke.VOLUME_GIB} GiB written, read back and detached"


def _try_volume(test: SmokeTest, cloud: Connection, server: str, volume: str) -> None:
    """The volume was attached to the server, which wrote to it and read it back, and is detached again."""

    def is_in(*statuses: str) -> bool:
        state = volumes.volume_state(cloud, volume)
        if state.failed:
            raise Rejected(f"the volume for {test.ctx.name} is in {state.status}", hint="see cinder-volume's journal")
        return state.status in statuses

    def seen(there: bool) -> bool:
        report = read_console(consoles.console_text(cloud, server))
        wanted = smoke.VOLUME_GIB << 30
        return any(v.size_bytes == wanted and v.io_works and v.is_there is there for v in report.volumes.values())

    def in_use() -> bool:
        # Reserved before nova answers: it is available again when what followed has failed.
        if is_in(volumes.AVAILABLE):
            raise _volume_rejected(test, "was not attached: nova gave it back")
        return is_in(volumes.IN_USE) and seen(True)

    # An earlier attempt may have ended while it was being attached, which nova goes on with.
    _await_volume(test, lambda: is_in(volumes.AVAILABLE, volumes.IN_USE), "is not available")
    volumes.ensure_attached(cloud, volumes.volume_state(cloud, volume), server)
    _await_volume(test, in_use, "is not attached, or the server cannot use it")
    volumes.ensure_detached(cloud, volumes.volume_state(cloud, volume))
    _await_volume(test, lambda: is_in(volumes.AVAILABLE) and seen(False), "is not detached")


def _await_volume(test: SmokeTest, look: Callable[[], bool], what: str) -> None:
    waited = wait_on(test.ctx.own_host(), look, timeout_s=VOLUME_S, check=test.ctx.check)
    if waited.seconds is None:
        raise _volume_rejected(test, f"{what} after {waited.limit_s:.0f} s")


def _volume_rejected(test: SmokeTest, what: str) -> Rejected:
    host = test.ctx.name
    return Rejected(
        f"the volume for {host} {what}; on {host}: {test.journal()}",
        hint=f"openstack volume show {test.own_name}; journalctl -u levier-cinder-volume on the storage host",
    )


# --- removal ---------------------------------------------------------------------------------------------------------


@step(name=install_plan.SMOKE_REMOVE, title="Remove all of the smoke test", undo=Undo.NO_EFFECT)
def remove(ctx: NodeContext) -> JsonMap:
    """Nothing of the test is left in any service, as each of them lists it. Safe to repeat."""
    test = SmokeTest(ctx)
    swept = test.remove(timeout_s=REMOVED_S, check=ctx.check)
    if swept.left:
        raise Rejected(
            f"the smoke test left {_some(swept.left)}",
            hint=f"remove it by hand (docs/smoke-test.md, When it fails), the project {test.name} last; then retry",
        )
    return {"removed": len(swept.removed), "left": [], "listed": sorted({*test.services, "identity"})}


def _some(left: Sequence[str]) -> str:
    return ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")


STEPS: tuple[NodeStep, ...] = (prepare, server, check, remove)
