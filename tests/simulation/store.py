"""One process's connection to the step log in memory: points before and after each transaction, and outages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from levier.domain.errors import StoreUnavailable
from levier.domain.operation import Fence
from levier.saga.log import StepLog
from levier.saga.verbs import VerbLog
from tests.simulation.kernel import Kernel, Process
from tests.simulation.memory_log import MemoryLog
from tests.simulation.memory_verbs import MemoryVerbLog
from tests.simulation.scenario import Outage, OutageKind

T = TypeVar("T")

READS = frozenset({"status", "statuses", "is_current", "cancel_requested", "leases", "find", "history", "abandoned_on"})
QUIET = frozenset({"renew"})
"""Permissions: between them and the command that follows nothing may come, see World.command."""


class Store:
    """The database, as all processes share it."""

    def __init__(self, kernel: Kernel, log: MemoryLog, outages: tuple[Outage, ...]) -> None:
        self.kernel = kernel
        self.log = log
        self.verbs = MemoryVerbLog(log)
        self.healthy = False
        self.happened: list[str] = []
        self._outages = list(outages)
        self._calls = 0
        self._away_until = 0.0
        self._kind = OutageKind.AWAY

    def log_for(self, process: Process) -> StepLog:
        """The step log as this process reaches it."""
        return cast(StepLog, _Connection(self, process, self.log))

    def verbs_for(self, process: Process) -> VerbLog:
        """The log of decisions as this process reaches it."""
        return cast(VerbLog, _Connection(self, process, self.verbs))

    def transaction(self, process: Process, fence: Fence, work: Callable[[], T]) -> T:
        """A write of another store than the log, under the fence."""

        def fenced() -> T:
            if not self.log.is_current(fence):
                raise fence.lost()
            return work()

        return self.call(process, "transaction", fenced)

    def call(self, process: Process, name: str, transaction: Callable[[], T]) -> T:
        """One transaction, or what an outage makes of it."""
        self.kernel.point(f"{name} ")
        self._calls += 1
        silent = self._strike(process, name)
        result = transaction()
        if silent:
            raise StoreUnavailable("the connection broke during the commit")
        if name not in READS and name not in QUIET:
            self.kernel.point(f"{name} done")
        return result

    def _strike(self, process: Process, name: str) -> bool:
        """Raises what an outage raises; True when the answer to this commit is to be lost."""
        if self.healthy:
            return False
        for outage in [o for o in self._outages if o.call <= self._calls]:
            if outage.kind is OutageKind.SILENT and name in READS:
                continue
            self._outages.remove(outage)
            self.happened.append(f"database {outage.kind}")
            self.kernel.tell(process.name, f"--- database {outage.kind}")
            if outage.kind is OutageKind.SILENT:
                return True
            self._away_until, self._kind = self.kernel.now_s + outage.seconds, outage.kind
        if self.kernel.now_s < self._away_until and not (self._kind is OutageKind.READ_ONLY and name in READS):
            raise StoreUnavailable(f"the database is {self._kind}")
        return False


class _Connection:
    def __init__(self, store: Store, process: Process, log: object) -> None:
        self._store = store
        self._process = process
        self._log = log

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)

        def transaction(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            fence = args[0] if args else None
            if isinstance(fence, Fence) and name not in READS and not self._store.log.is_current(fence):
                self._store.kernel.violate(f"{fence.worker} writes ({name}), though it was fenced off")
            return result

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._store.call(self._process, name, lambda: transaction(*args, **kwargs))

        return call
