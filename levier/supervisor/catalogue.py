"""The processes of a Levier installation, as data."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from levier.supervisor.ports import WantedPort
from levier.supervisor.spec import FileReady, HttpReady, ProcessSpec, only
from levier.supervisor.statedir import StateDir

LOOPBACK = "127.0.0.1"

# The recorder and the persister write one event at a time unless told otherwise, about 37 a second; with these, some
# 250 (field notes on Prefect, docs/decisions/0081). No telemetry leaves the site.
PREFECT_SERVER_SETTINGS = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    # A new attempt of a run that was cancelled less than a minute ago is told of that cancellation again, and dies of
    # it. Two seconds still cover the gap between an attempt's start and its subscription.
    "PREFECT_SERVER_EVENTS_MAXIMUM_WEBSOCKET_BACKFILL": "PT2S",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
RUNNER_SETTINGS = {
    # 10 s by default: the wait before an operation begins.
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    # Levier's own loggers appear in the run's log; without a root level their INFO is lost.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "levier,drivers,tasks,flows",
    "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
}


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What `levier up` was asked for."""

    state_dir: Path
    api_port: int = 8420
    prefect_port: int = 4200
    boot_port: int = 8480
    namespace: str | None = None
    limit: int = 10
    """Flow runs at the same time."""
    processes: tuple[str, ...] = ()
    """Only these; all when empty."""
    build_ramdisk: bool = True
    """Whether the API builds the deploy ramdisk when there is none; otherwise one is imported."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**asdict(self), "state_dir": str(self.state_dir)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UpSettings:
        """The inverse of `to_json`."""
        known = {each.name: values[each.name] for each in fields(cls)}
        return cls(**{**known, "state_dir": Path(values["state_dir"]), "processes": tuple(values["processes"])})

    @property
    def ports(self) -> dict[str, int]:
        """Name → TCP port."""
        return {"api": self.api_port, "prefect": self.prefect_port, "boot": self.boot_port}

    @property
    def urls(self) -> dict[str, str]:
        """Where a person or a program on this machine reaches what runs."""
        prefect = f"http://{LOOPBACK}:{self.prefect_port}"
        return {"api": f"http://{LOOPBACK}:{self.api_port}", "prefect_ui": prefect, "prefect_api": f"{prefect}/api"}


def processes(settings: UpSettings) -> tuple[ProcessSpec, ...]:
    """The processes that were asked for. Raises InvalidRequest for an unknown name."""
    everything = (*_relay(settings), _prefect(settings), _api(settings), _boot(settings), *_workers(settings))
    return only(everything, settings.processes)


def wanted_ports(settings: UpSettings) -> tuple[WantedPort, ...]:
    """The ports that the processes asked for will listen on, here and in the network namespace."""
    names = {spec.name for spec in processes(settings)}
    options = {"api": "--api-port", "prefect": "--prefect-port", "boot": "--boot-port"}
    inside = [
        WantedPort(
            "0.0.0.0" if name == "boot" else LOOPBACK,  # noqa: S104
            port,
            options[name],
            None if name == "api" else settings.namespace,
        )
        for name, port in settings.ports.items()
        if name in names
    ]
    relayed = [WantedPort(LOOPBACK, port, options[name]) for name, port in _relayed(settings) if "relay" in names]
    return (*inside, *relayed)


def _relayed(settings: UpSettings) -> list[tuple[str, int]]:
    return [("prefect", settings.prefect_port)]


def _environment(settings: UpSettings) -> dict[str, str]:
    """What every process is told. Passwords in database URLs travel in the environment, never in an argument."""
    home = settings.state_dir / "prefect"
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY", ""), LOOPBACK, "localhost")))
    return {
        "LEVIER_STATE_DIR": str(settings.state_dir),
        "LEVIER_API_PORT": str(settings.api_port),
        "LEVIER_API_URL": _url(settings, "LEVIER_API_URL", "api", "api"),
        "LEVIER_BOOT_PORT": str(settings.boot_port),
        "LEVIER_PREFECT_PORT": str(settings.prefect_port),
        "PREFECT_API_URL": _url(settings, "PREFECT_API_URL", "prefect", "prefect_api"),
        "PREFECT_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
        **{name: value for name, value in PREFECT_SERVER_SETTINGS.items() if name not in os.environ},
    }


def _url(settings: UpSettings, variable: str, process: str, name: str) -> str:
    """This installation's own, unless `process` runs on another machine and `variable` says where."""
    elsewhere = bool(settings.processes) and process not in settings.processes
    return os.environ.get(variable, settings.urls[name]) if elsewhere else settings.urls[name]


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _relay(settings: UpSettings) -> tuple[ProcessSpec, ...]:
    if settings.namespace is None:
        return ()
    ready = StateDir(settings.state_dir).run / "relay.ready"
    ports = [argument for _, port in _relayed(settings) for argument in ("--port", str(port))]
    arguments = ("--namespace", settings.namespace, *ports, "--ready-file", str(ready))
    return (ProcessSpec("relay", _python("-m", "levier.supervisor.relay", *arguments), ready=FileReady(ready)),)


def _prefect(settings: UpSettings) -> ProcessSpec:
    database = f"sqlite+aiosqlite:///{settings.state_dir / 'prefect' / 'prefect.db'}"
    url = os.environ.get("LEVIER_PREFECT_DATABASE_URL", database)
    listen = ("--host", LOOPBACK, "--port", str(settings.prefect_port))
    return ProcessSpec(
        "prefect",
        _python("-m", "flows.server", *listen),
        env={
            **_environment(settings),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
            # By itself it writes into the installed package: not all may, and what root wrote others may not read.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.state_dir / "prefect" / "ui"),
        },
        ready=HttpReady(f"{settings.urls['prefect_api']}/ready"),
        stop_timeout_s=15,
        namespace=settings.namespace,
    )


def _api(settings: UpSettings) -> ProcessSpec:
    # Outside the network namespace: it builds images from the package archive, and talks to no machine.
    return ProcessSpec(
        "api",
        _python("-m", "levier.api", "--state-dir", str(settings.state_dir)),
        env={**_environment(settings), "LEVIER_BUILD_RAMDISK": "yes" if settings.build_ramdisk else "no"},
        ready=HttpReady(f"{settings.urls['api']}/v1/health"),
        # It builds the deploy ramdisk before it answers, when there is none yet.
        start_timeout_s=900.0,
    )


def _boot(settings: UpSettings) -> ProcessSpec:
    return ProcessSpec(
        "boot",
        _python("-m", "levier.api.boot", "--state-dir", str(settings.state_dir)),
        env=_environment(settings),
        # The one document that is served without a boot entry (docs/agent-protocol.md, section 1).
        ready=HttpReady(f"http://{LOOPBACK}:{settings.boot_port}/boot.ipxe"),
        depends_on=("api",),  # which brings the database to this version first
        namespace=settings.namespace,
    )


def _workers(settings: UpSettings) -> tuple[ProcessSpec, ...]:
    netboot = ProcessSpec(
        "netboot",
        _python("-m", "levier.services.netboot_process", "--state-dir", str(settings.state_dir)),
        env=_environment(settings),
        depends_on=("api",),
        namespace=settings.namespace,
    )
    ready = StateDir(settings.state_dir).run / "runner.ready"
    runner = ProcessSpec(
        "runner",
        _python("-m", "flows.serve", "--limit", str(settings.limit), "--ready-file", str(ready)),
        env={**_environment(settings), **RUNNER_SETTINGS},
        ready=FileReady(ready),
        depends_on=("prefect", "api"),
        namespace=settings.namespace,
    )
    return (netboot, runner)
