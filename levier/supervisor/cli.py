"""`levier up`, `levier down`, `levier status`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from levier.supervisor import control, daemon
from levier.supervisor.catalogue import UpSettings
from levier.supervisor.lineage import is_alive
from levier.supervisor.progress import Progress
from levier.supervisor.statedir import Phase, ProcessState, Record, StateDir, load_record

app = typer.Typer(help="Start, stop and look at this machine's Levier.", no_args_is_help=True)
_console = Console()
NOT_RUNNING = 3
"""Exit status of `levier status` when not everything runs, as systemctl's for an inactive unit."""

StateDirOption = Annotated[
    Path,
    typer.Option("--state-dir", envvar="LEVIER_STATE_DIR", help="Where this installation keeps everything it knows."),
]
DEFAULT_STATE_DIR = Path("/var/lib/levier")


@app.command()
def up(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    namespace: Annotated[str | None, typer.Option("--netns", help="Network namespace to run in (ip-netns).")] = None,
    api_port: Annotated[int, typer.Option(envvar="LEVIER_API_PORT", help="Levier's REST API.")] = 8420,
    prefect_port: Annotated[int, typer.Option(envvar="LEVIER_PREFECT_PORT", help="Prefect's UI and API.")] = 4200,
    boot_port: Annotated[int, typer.Option(envvar="LEVIER_BOOT_PORT", help="The boot service for nodes.")] = 8480,
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at the same time.")] = 10,
    build_ramdisk: Annotated[
        bool, typer.Option(help="Build the deploy ramdisk when there is none (needs root); else import one.")
    ] = True,
    only: Annotated[list[str] | None, typer.Option(help="Run only this process (repeatable).")] = None,
) -> None:
    """Start API, Prefect with its UI, runner, boot service and DHCP, and keep them running.

    Without --detach they run until Ctrl-C. Does nothing but say so when they run already.
    """
    settings = UpSettings(
        state_dir=state_dir.absolute(),
        api_port=api_port,
        prefect_port=prefect_port,
        boot_port=boot_port,
        namespace=namespace,
        limit=limit,
        processes=tuple(only or ()),
        build_ramdisk=build_ramdisk,
    )
    if (record := control.running_record(StateDir(settings.state_dir))) is not None:
        _console.print(f"Levier already runs in {settings.state_dir} since {record.started:%Y-%m-%d %H:%M:%S} UTC.")
        _show_urls(record)
    elif detach:
        with Progress(_console) as progress:
            record = daemon.start(settings, progress)
        _show_urls(record)
        _console.print(f"`levier status` looks at it, `levier down` ends it; logs in {settings.state_dir}/log.")
    else:
        _run_in_foreground(settings)


@app.command()
def down(state_dir: StateDirOption = DEFAULT_STATE_DIR) -> None:
    """Stop everything that `levier up` started. Operations in progress go on with the next `levier up`."""
    if control.stop(StateDir(state_dir.absolute())):
        _console.print("Levier is stopped. Operations in progress go on with the next `levier up`.")
    else:
        _console.print(f"No Levier runs in {state_dir.absolute()}.")


@app.command()
def status(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs. The exit status is 0 when everything is ready, 3 otherwise."""
    document = describe(StateDir(state_dir.absolute()))
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        _show(document)
    if not document["ready"]:
        raise typer.Exit(NOT_RUNNING)


def describe(state_dir: StateDir) -> dict[str, Any]:
    """What runs now, checked process by process, as plain JSON values. Safe to repeat. Raises InvalidRequest."""
    record = load_record(state_dir)
    if record is None or not is_alive(record.supervisor):
        return {"running": False, "ready": False, "state_dir": str(state_dir.path), "processes": []}
    entries = []
    for name, entry in record.processes.items():
        identity = record.identity(name)
        alive = identity is not None and is_alive(identity)
        state = entry.state.value if alive or identity is None else "ended"
        entries.append({"name": name, **entry.model_dump(mode="json", exclude={"started_ticks"}), "state": state})
    return {
        "running": True,
        "ready": record.phase is Phase.RUNNING and all(e["state"] == ProcessState.READY.value for e in entries),
        "phase": record.phase.value,
        "state_dir": str(state_dir.path),
        "supervisor_pid": record.supervisor_pid,
        "started": record.started.isoformat(),
        "netns": record.namespace,
        "ports": dict(record.ports),
        "urls": dict(record.urls),
        "processes": entries,
    }


def _run_in_foreground(settings: UpSettings) -> None:
    with Progress(_console) as progress:
        told = False

        def changed(record: Record) -> None:
            nonlocal told
            progress(record)
            if record.phase is Phase.RUNNING and not told:
                told = True
                _show_urls(record)
                _console.print(f"Ctrl-C stops everything; logs in {settings.state_dir}/log.")

        control.run_here(settings, changed)
    _console.print(f"Levier is stopped (process {os.getpid()}).")


def _show_urls(record: Record) -> None:
    _console.print(f"  API         {record.urls['api']}")
    _console.print(f"  Prefect UI  {record.urls['prefect_ui']}")


def _show(document: dict[str, Any]) -> None:
    if not document["running"]:
        _console.print(f"No Levier runs in {document['state_dir']}.")
        return
    table = Table("process", "state", "pid", "restarts", "since (UTC)", "last end")
    for entry in document["processes"]:
        pid = "" if entry["pid"] is None else str(entry["pid"])
        since = entry["since"][:19].replace("T", " ")
        table.add_row(entry["name"], entry["state"], pid, str(entry["restarts"]), since, entry["last_exit"])
    _console.print(table)
    _console.print(f"  {'logs':<12} {document['state_dir']}/log")
    for name, url in document["urls"].items():
        _console.print(f"  {name:<12} {url}")
