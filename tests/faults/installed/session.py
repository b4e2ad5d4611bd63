"""A walk while the tests ask for its verdicts, one after the other."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cases import FaultCase
from tests.faults.conduct import Verdict
from tests.faults.installed.clouds import CloudLayout
from tests.faults.installed.kinds import Place
from tests.faults.installed.rack import InstalledRack
from tests.faults.installed.walk import Walk

EVERY_FAULT = "--every-fault"
WALK_S = 5400.0
"""A case waits for all before it, and the first one for the rack, a release and packages that nobody has cached yet."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What is known of a walk once it came there."""

    verdicts: Mapping[FaultCase, Future[Verdict]]
    back: Future[list[str]]
    """What was not as before on the way down."""


@contextmanager
def walking(cloud: CloudLayout, cases: Mapping[Place, Sequence[FaultCase]]) -> Iterator[Walked]:
    """Somebody walks up the cloud and down again on a rack of its own; nothing of it is left afterwards."""
    walked = Walked({case: Future() for own in cases.values() for case in own}, Future())
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="levier-installed-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)  # hosts are served from below it by processes without rights
        rack = InstalledRack(Path(directory), cloud)
        try:
            rack.start()
            with rack.inside() as thread:
                thread.submit(_walk, Walk(rack, cases), walked, stopped)
                try:
                    yield walked
                finally:
                    stopped.set()
        finally:
            rack.stop()


def _walk(walk: Walk, walked: Walked, stopped: threading.Event) -> None:
    """Every verdict is there, or the error that kept the walk from it."""
    try:
        walked.back.set_result(walk.go(walked.verdicts, stop=stopped.is_set))
    except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
        walked.back.set_exception(error)
    for verdict in walked.verdicts.values():
        if not verdict.done():
            verdict.set_exception(walked.back.exception() or RuntimeError("the walk was stopped"))
