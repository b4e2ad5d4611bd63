"""A virtual rack and a Levier beside it, started and ended as an operator does."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import httpx
from ruamel.yaml import YAML

from levier.lab.rack import Rack
from tests.integration.e2e.ledger import Mark
from tests.integration.e2e.shelf import alone_at, bring_from, leave_at
from tests.integration.e2e.terminal import ENDED, PATIENCE_S, Terminal, until
from tests.integration.prefect_server import free_port

IMAGE = "debian-12"
NODES = ("a1-01", "a1-02", "b1-01", "b1-02")
BUILD_S = 900.0
BMC_S = 20.0
"""A BMC's timeout_s: no attempt fails because this computer stood still with its BMCs."""
Site = dict[str, Any]


class Installation:
    """A lab of four `nspawn` machines, one `levier up` in its network, the image, the credentials and the site."""

    def __init__(self, directory: Path, *, lab: str = "e2e") -> None:
        # Unique on this computer, so that two runs of the tests do not meet.
        self.lab = f"{lab}-{os.getpid()}"
        self.machine_names: tuple[str, ...] = NODES
        self.directory = directory
        self.state_dir = directory / "state"
        self.images = directory / "images"
        self.prefect_port = free_port()
        api_port = free_port()
        self.terminal = Terminal(
            {
                "LEVIER_LAB_DIR": str(directory / "lab"),
                "LEVIER_STATE_DIR": str(self.state_dir),
                "LEVIER_IMAGE_CACHE": str(self.images),
                "LEVIER_LAB_PACKAGE_CACHE": str(self._shared_images().parent / "packages"),
                "LEVIER_API_PORT": str(api_port),
                "LEVIER_PREFECT_PORT": str(self.prefect_port),
                "LEVIER_BOOT_PORT": str(free_port()),
            }
        )
        self.api_url = f"http://127.0.0.1:{api_port}/v1"
        self.prefect = httpx.Client(
            base_url=f"http://127.0.0.1:{self.prefect_port}/api", timeout=PATIENCE_S, trust_env=False
        )
        self.rack = Rack.at(name=self.lab, directory=directory / "lab")
        self.key = directory / "operator-key"
        self.site: Site = {}
        self._revision = 0
        self._first_revision = 0

    # --- beginning and end ------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[Installation]:
        """Everything is up and the site applied; nothing is left of it afterwards."""
        try:
            self._start()
            yield self
        finally:
            self._stop()

    def _start(self) -> None:
        terminal = self.terminal
        self._start_lab()
        lab = terminal.json("lab", "status", "--name", self.lab)
        for name, values in json.loads(Path(lab["credentials_file"]).read_text()).items():
            terminal.ok("secret", "set", name, "--stdin-json", stdin=json.dumps(values))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.site = YAML(typ="safe").load(Path(lab["site_file"]).read_text())
        for node in self.site["nodes"]:
            node["bmc"]["timeout_s"] = BMC_S
        self.site["site"]["authorized_keys"] = [self.key.with_suffix(".pub").read_text().strip()]
        self.site = self._first_site(self.site)
        self._first_revision = self.apply(self.site)

    def _first_site(self, site: Site) -> Site:
        """What is applied first, of what the lab describes."""
        return site

    def _lab_options(self) -> tuple[str, ...]:
        return ("--chassis", "nspawn", "--nodes", str(len(self.machine_names)))

    def _start_lab(self) -> None:
        """The lab and Levier are up, and the image that its machines get is on the shelf."""
        self.terminal.ok("lab", "up", "--name", self.lab, *self._lab_options())
        with alone_at(self._shared_images()):
            bring_from(self._shared_images(), self.images)
            self.up()
            self.terminal.ok("image", "build", IMAGE, "--kernel", "cloud", timeout_s=BUILD_S)
            leave_at(self._shared_images(), self.images)

    def up(self) -> None:
        """`levier up` in the lab's network."""
        self.terminal.ok("up", "--detach", "--netns", f"levier-{self.lab}", timeout_s=600)

    def _stop(self) -> None:
        with ExitStack() as orders:  # each whatever becomes of the others, the last one first
            orders.callback(self.prefect.close)
            orders.callback(self.terminal.ok, "lab", "down", "--name", self.lab)
            orders.callback(self.terminal.ok, "down")

    @staticmethod
    def _shared_images() -> Path:
        cache = os.environ.get("LEVIER_TEST_CACHE", str(Path.home() / ".cache" / "levier"))
        return Path(cache) / "images"

    # --- site -------------------------------------------------------------------------------------------------------

    def changed(self, change: Callable[[Site], None]) -> Site:
        """The site, but for `change`."""
        site = copy.deepcopy(self.site)
        change(site)
        return site

    def changed_site(self, change: Callable[[Site], None]) -> Path:
        """A site file that differs from the applied one by `change`; not applied."""
        return self._write(self.changed(change))

    def apply(self, site: Site) -> int:
        """The site is the newest revision; its number."""
        self._revision = int(self.terminal.json("site", "apply", str(self._write(site)))["revision"])
        return self._revision

    def _write(self, site: Site) -> Path:
        out = io.StringIO()
        YAML().dump(site, out)
        path = self.directory / "site.yaml"
        path.write_text(out.getvalue())
        return path

    # --- looking ----------------------------------------------------------------------------------------------------

    def machines(self) -> dict[str, dict[str, Any]]:
        """What the lab says of each machine, as `levier lab status --json` does."""
        return {m["name"]: m for m in self.rack.status()["nodes"]}

    def mark(self) -> Mark:
        """This place in the lab's ledger."""
        return Mark(self._events, max((e["seq"] for e in self._events(0)), default=0))

    def _events(self, since: int) -> list[dict[str, Any]]:
        return [asdict(event) for event in self.rack.events(since=since)]

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes as `levier node list` shows them, by name."""
        return {n["name"]: n for n in self.terminal.json("node", "list")}

    def operation(self, identity: str) -> dict[str, Any]:
        """The operation with its steps, as `levier operation show` has it."""
        shown: dict[str, Any] = self.terminal.json("operation", "show", identity)
        return shown

    def newest_operation(self) -> dict[str, Any]:
        """The operation that was ordered last, with its steps."""
        return self.operation(self.terminal.json("operation", "list")[-1]["id"])

    def traces(self, *nodes: str) -> list[str]:
        """Whatever an undone operation must not leave in Levier, in words."""
        return [
            f"{what}: {each}"
            for what in ("addresses", "boot-entries")
            for each in self.get(f"/{what}")
            if each["node"] in nodes
        ]

    # --- the REST API, where the command line is too slow to look ---------------------------------------------------

    def token(self) -> str:
        """The API token of this installation."""
        return (self.state_dir / "api-token").read_text().strip()

    def api(self) -> httpx.Client:
        """A client that holds the operator's token."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        return httpx.Client(base_url=self.api_url, headers=headers, timeout=PATIENCE_S, trust_env=False)

    def get(self, path: str) -> Any:
        """What the REST API answers."""
        with self.api() as api:
            return api.get(path).raise_for_status().json()

    def steps(self, identity: str) -> dict[tuple[str, str], dict[str, Any]]:
        """(step, node) → the step as it is now."""
        shown = self.get(f"/operations/{identity}")
        return {(s["step"], s["target"]): s for s in shown["steps"]}

    def ended(self, identity: str) -> dict[str, Any]:
        """The operation once it has ended."""

        def look() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.get(f"/operations/{identity}")
            return shown if shown["state"] in ENDED else None

        return until(look, what=f"operation {identity} ended", every_s=0.5)

    def reached(self, identity: str, step: str, node: str, states: set[str]) -> None:
        """Returns when that step of the operation is in one of `states`."""
        until(
            lambda: self.steps(identity)[(step, node)]["state"] in states,
            what=f"{step} on {node} is {' or '.join(states)} in {identity}",
            every_s=0.03,
        )

    def begun(self, known: Collection[str]) -> str:
        """The id of the first operation that is not among the `known` ones."""
        return until(
            lambda: next((o["id"] for o in self.get("/operations") if o["id"] not in known), None),
            what="an operation began",
            every_s=0.05,
        )

    def prefect_run(self, identity: str) -> dict[str, Any]:
        """The flow run as Prefect's own REST API has it."""
        run: dict[str, Any] = self.prefect.get(f"/flow_runs/{identity}").raise_for_status().json()
        return run

    # --- back to where every test begins ----------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """Nothing of any operation stands, all machines are off, the site is the first one again."""
        with self.api() as api:
            orders = [(o, self._taking_back(api, o)) for o in api.get("/operations").raise_for_status().json()]
            for operation, verb in orders:
                if verb:
                    answer = api.post(f"/operations/{operation['id']}/{verb}")
                    assert answer.is_success, f"{verb} of {operation['id']}: {answer.text}"
                    flow_run = answer.json()["flow_run"]
                    until(lambda r=flow_run: self._done(r), what=f"{verb} of {operation['id']}")  # type: ignore[misc]
        if self._revision != self._first_revision:
            self._first_revision = self.apply(self.site)
        assert {name: m["power"] for name, m in self.machines().items()} == dict.fromkeys(self.machine_names, "off")
        assert not self.traces(*self.machine_names)
        assert {n["state"] for n in self.get("/nodes")} <= {"enrolled", "available"}

    @staticmethod
    def _taking_back(api: httpx.Client, operation: dict[str, Any]) -> str:
        if operation["state"] in {"planned", "running", "unwinding"}:
            return "cancel"
        shown = api.get(f"/operations/{operation['id']}").raise_for_status().json()
        return "rollback" if shown["stands"] and not shown["abandoned"] else ""

    def _done(self, flow_run: str) -> bool:
        return self.prefect_run(flow_run)["state"]["type"] in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


Kind = TypeVar("Kind", bound=Installation)


@contextmanager
def installed(kind: Callable[[Path], Kind]) -> Iterator[Kind]:
    """An installation of its own in a directory of its own, both gone afterwards.

    With `LEVIER_E2E_KEEP` in the environment the directory stays: logs and databases tell why a test failed.
    """
    directory = Path(tempfile.mkdtemp(prefix="levier-e2e-", dir="/var/tmp"))
    directory.chmod(0o711)  # dnsmasq drops its privileges and still reads below it
    try:
        installation = kind(directory)
        with installation.running():
            yield installation
    finally:
        if not os.environ.get("LEVIER_E2E_KEEP"):
            shutil.rmtree(directory)
