"""After operations that succeeded, failed, were killed and undone: no secret lies anywhere in clear text."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from levier.supervisor.lineage import marked
from tests.integration.e2e.installation import Installation

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def used(installation: Installation) -> Installation:
    """The installation after a whole deployment: its other tests have left plenty, alone this one makes its own."""
    if not [o for o in installation.get("/operations") if o["kind"] == "expand" and o["state"] == "rolled_back"]:
        installation.terminal.ok("expand", "a1-01")
        installation.come_to_rest()
    return installation


def passwords(levier: Installation) -> dict[str, str]:
    """What must not be found, by what it is."""
    credentials = json.loads(levier.rack.layout.credentials.read_text())
    return {"BMC password": credentials["lab-bmc"]["password"], "API token": levier.token()}


def leaks(name: str, content: bytes, secrets: dict[str, str]) -> list[str]:
    """What of `secrets` is in `content`, plain, in base64 or as UTF-16; and any private key."""
    found = [f"{name}: a private key"] if b"PRIVATE KEY" in content else []
    for what, secret in secrets.items():
        forms = (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"="), secret.encode("utf-16-le"))
        found += [f"{name}: the {what}"] if any(form in content for form in forms) else []
    return found


def files_of(levier: Installation) -> list[Path]:
    """Everything that the installation wrote, but for the one file whose content is the token."""
    everything = [path for path in levier.state_dir.rglob("*") if path.is_file()]
    return [path for path in everything if path.name != "api-token"]


def test_nothing_on_disk_holds_a_secret(used: Installation) -> None:
    files = files_of(used)
    names = {path.name for path in files}
    assert {"levier.db", "prefect.db", "api.log", "runner.log", "boot.log", "prefect.log", "netboot.log"} <= names
    assert not [leak for path in files for leak in leaks(str(path), path.read_bytes(), passwords(used))]


def test_the_search_finds_what_is_there(used: Installation) -> None:
    """The search would find something: the operation's id is in the database and in Prefect's."""
    identity = next(o["id"] for o in used.get("/operations") if o["kind"] == "expand")
    holding = {path.name.partition("-")[0] for path in files_of(used) if identity.encode() in path.read_bytes()}
    assert {"levier.db", "prefect.db"} <= holding


def test_flow_runs_and_their_logs_hold_no_secret(used: Installation) -> None:
    secrets = passwords(used)
    for what in ("flow_runs", "task_runs", "logs", "artifacts", "variables", "block_documents"):
        offset, pages = 0, 0
        while (
            rows := used.prefect.post(f"/{what}/filter", json={"limit": 200, "offset": offset})
            .raise_for_status()
            .json()
        ):
            assert leaks(what, json.dumps(rows).encode(), secrets) == []
            offset, pages = offset + len(rows), pages + 1
        assert pages or what not in {"flow_runs", "task_runs", "logs"}


def test_no_process_shows_a_secret_on_its_command_line(used: Installation) -> None:
    mark = json.loads((used.state_dir / "run" / "supervisor.json").read_text())["mark"]
    pids = [each.pid for each in marked(mark)]
    assert len(pids) >= 5
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    assert not [leak for pid, line in lines.items() for leak in leaks(f"process {pid}", line, passwords(used))]


def test_files_of_the_installation_are_its_owners_alone(used: Installation) -> None:
    """But for what dnsmasq, without privileges, has to read."""
    open_to_others = [
        str(path.relative_to(used.state_dir))
        for path in files_of(used)
        if path.stat().st_mode & 0o077 and not path.is_relative_to(used.state_dir / "netboot")
    ]
    private = ("log/", "run/", "prefect/", "secrets/")
    assert [path for path in open_to_others if not path.startswith(private)] == []
    for directory in private:
        assert (used.state_dir / directory).stat().st_mode & 0o077 == 0, directory


def test_stored_secrets_never_come_out(used: Installation) -> None:
    with used.api() as api:
        assert api.get("/secrets").json() == ["lab-bmc"]
        for path in ("/secrets/lab-bmc", "/secrets/internal-ssh-login"):
            assert api.get(path).status_code in {404, 405}
        assert api.delete("/secrets/internal-ssh-login").status_code in {404, 409, 422}
        assert api.put("/secrets/internal-ssh-login", json={"private": "x", "public": "y"}).status_code in {409, 422}
