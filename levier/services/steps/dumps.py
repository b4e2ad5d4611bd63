"""Dumps of databases: the way back from a change of their schema. They lie where the databases are."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from drivers.host import forget
from drivers.host.configuration import KEPT
from levier.domain import install_plan
from levier.domain.component import Action, Component
from levier.domain.ssh import RemoteHost
from levier.services.components.databases import database_dump, database_restore, schema_comparison
from levier.services.context import NodeContext

_COMPARISON_S = 60.0


@dataclass(frozen=True)
class Dumps:
    """The databases of an action, dumped before it changed their schema."""

    host: RemoteHost
    files: Mapping[str, str]
    """Database → its dump."""
    timeout_s: float

    def make(self) -> None:
        """Each is there, of before the first attempt. Safe to repeat."""
        for database, file in self.files.items():
            self.host.run(database_dump(database, file), timeout_s=self.timeout_s)

    def forget_unchanged(self) -> list[str]:
        """The databases whose schema is another one now. The dumps of the others are gone: nothing is to be undone."""
        changed = [database for database in self.files if self._has_changed(database)]
        for database in self.files.keys() - changed:
            forget(self.host, self.files[database])
        return changed

    def restore(self) -> list[str]:
        """No dump is left, and each database whose schema was changed is as it was dumped; those. Safe to repeat.

        Where the schema is the one of before, what was written since stays: a cloud is in use while an installation is
        repeated.
        """
        restored = []
        for database, file in self.files.items():
            # Without one the action never began, or changed nothing, or is undone already.
            is_there = self.host.run(f"test -e {shlex.quote(file)}", check=False).exit_status == 0
            if is_there and self._has_changed(database):
                self.host.run(database_restore(database, file), timeout_s=self.timeout_s)
                restored.append(database)
            forget(self.host, file)
        return restored

    def _has_changed(self, database: str) -> bool:
        comparison = schema_comparison(database, self.files[database])
        return self.host.run(comparison, timeout_s=_COMPARISON_S).stdout.strip() != "same"


@contextmanager
def dumps_of(ctx: NodeContext, component: Component, action: Action) -> Iterator[Dumps]:
    """The dumps of an action in this operation; without any databases, none."""
    directory = f"{KEPT}/{ctx.operation}/dumps"
    files = {name: f"{directory}/{component.name}-{action.name}-{name}.sql" for name in action.dump_before}
    if not files:
        yield Dumps(ctx.own_host(), {}, action.timeout_s)
        return
    with ctx.host_of(install_plan.DATABASES) as host:
        yield Dumps(host, files, action.timeout_s)
