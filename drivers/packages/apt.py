"""Packages of a Debian host, by apt and dpkg over SSH."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from drivers.packages.apt_answers import Plan, parse_free, parse_offers, parse_plan, parse_sizes, shortage_kib
from drivers.packages.apt_errors import failed_error, fetch_error, resolution_error, unknown_error
from drivers.packages.apt_shell import AptLimits, AptShell
from drivers.packages.apt_sources import AptSourceFiles
from levier.domain.errors import InvalidRequest, Rejected
from levier.domain.package_sources import PackageSources
from levier.domain.packages import InstalledPackages, PackageChange, SourcesState
from levier.domain.ssh import RemoteHost

# Debian policy 5.6.1 and 5.6.12. apt itself would take `x-` and `x/suite` for orders.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+~:-]+")
_NOT_FETCHED = 11
"""Status of `install` in apt_work.sh when nothing was installed."""
_ARCHIVES, _SYSTEM = "/var/cache/apt/archives", "/usr"


class AptPackages:
    """`levier.domain.packages.PackageManager` for Debian and what is made from it. `name` is the host's, for errors."""

    def __init__(self, host: RemoteHost, *, name: str, limits: AptLimits | None = None) -> None:
        self._shell = AptShell(host, name=name, limits=limits or AptLimits())
        self._files = AptSourceFiles(host, name=name)
        self._name = name
        self._limits = self._shell.limits

    def installed(self) -> InstalledPackages:
        """What is on the host, as `PackageManager.installed` says. Changes nothing, safe to repeat."""
        return self._shell.installed()

    def refresh(self) -> None:
        """The lists are those of now: a mirror that cannot be asked is an error, unlike with apt-get alone.

        Safe to repeat. Raises as `PackageManager.refresh` says.
        """
        result = self._shell.work("update", limit_s=self._limits.refresh_s)
        if result.exit_status:
            raise fetch_error(self._name, result.stdout + result.stderr, mirrors=self._mirrors())

    def ensure_installed(
        self, names: Sequence[str], *, versions: Mapping[str, str] | None = None, may_change: bool = False
    ) -> PackageChange:
        """All of `names` are installed, as `PackageManager.ensure_installed` says. Safe to repeat."""
        pins = dict(versions or {})
        _check(names, pins)
        before = self._completed()
        missing = [name for name in dict.fromkeys(names) if not before.has(name, pins.get(name))]
        if not missing:
            return PackageChange()
        self.refresh()
        self._require_offers(missing, pins)
        wanted = [f"{name}={pins[name]}" if name in pins else name for name in missing]
        plan = self._plan(wanted)
        if not may_change:
            self._refuse_changes(plan, asked=set(pins))
        self._require_space(plan)
        self._install(wanted)
        after = self.installed()
        self._require(after, missing, pins)
        return PackageChange.between(before, after)

    def ensure_removed(self, names: Sequence[str]) -> PackageChange:
        """None of `names` is there, as `PackageManager.ensure_removed` says. Safe to repeat."""
        _check(names, {})
        before = self._completed()
        there = [name for name in dict.fromkeys(names) if name in before.known]
        if not there:
            return PackageChange()
        said = self._shell.read("simulate_purge", *there, check=False)
        if said.exit_status:
            raise resolution_error(self._name, said.stdout, mirrors="none")
        if others := sorted(parse_plan(said.stdout).removed - set(there)):
            raise Rejected(
                f"{self._name}: {', '.join(others)} would be removed too, for want of {', '.join(there)}",
                hint="Name them as well if they are to go.",
            )
        self._dpkg("--purge", there)
        return PackageChange.between(before, self.installed())

    def restore(self, before: InstalledPackages, *, may_stay_newer: bool = False) -> PackageChange:
        """Exactly the packages of `before` are there, as `PackageManager.restore` says. Safe to repeat."""
        # What a dead worker began ends within its own limit. Giving up earlier would leave an undo to a person.
        now = self._shell.installed(wait_s=self._limits.work_s + self._limits.lock_s)
        if gone := sorted(now.known - before.known):
            self._dpkg("--purge", gone)
        installed_since = (now.versions.keys() | now.unfinished.keys()) & before.residues
        if installed_since:
            self._dpkg("--remove", sorted(installed_since))
        kept = self._put_back(before, may_stay_newer=may_stay_newer)
        after = self.installed()
        change = PackageChange.between(before, after)
        # What was half-way then may be complete now.
        if change.changed.keys() - kept or change.removed or change.added.keys() - before.unfinished.keys():
            raise Rejected(
                f"{self._name}: the packages differ from the earlier state: {change.model_dump_json()}",
                hint="Compare with `dpkg -l` on the host and put them right by hand.",
            )
        return PackageChange.between(now, after)

    def _put_back(self, before: InstalledPackages, *, may_stay_newer: bool) -> set[str]:
        """What is missing or has another version is as in `before`; the packages that stay as they are, if they may."""
        current = self._completed()
        back = {name: version for name, version in before.versions.items() if not current.has(name, version)}
        if not back:
            return set()
        self.refresh()
        offers = parse_offers(self._shell.read("offers", *sorted(back)).stdout)
        lost = {name for name, version in back.items() if name not in offers or version not in offers[name].versions}
        kept = {name for name in lost if may_stay_newer and name in current.versions}
        if lost - kept:
            gone = [f"{name} {back[name]}" for name in sorted(lost - kept)]
            raise Rejected(
                f"{self._name}: the package mirror {self._mirrors()} no longer offers {', '.join(gone)}, "
                "which the host had before",
                hint="Let the host keep the newer version, or install the earlier one by hand from an archive of old "
                "packages.",
            )
        if wanted := sorted(f"{name}={back[name]}" for name in back.keys() - kept):
            self._plan(wanted)
            self._install(wanted)
        return kept

    def sources(self) -> SourcesState:
        """Where packages come from. Changes nothing, safe to repeat."""
        return self._files.state()

    def ensure_sources(self, wanted: PackageSources) -> tuple[str, ...]:
        """Packages come from where `wanted` says, as `PackageManager.ensure_sources` says. Safe to repeat."""
        return self._files.ensure(wanted.debian)

    def restore_sources(self, before: SourcesState) -> tuple[str, ...]:
        """The files are those of `before`. Safe to repeat."""
        return self._files.restore(before)

    def _completed(self) -> InstalledPackages:
        """The package database, once what an interrupted run left is completed. Raises Rejected when it cannot be."""
        now = self.installed()
        if now.whole:
            return now
        result = self._shell.work(
            "patiently dpkg --force-confdef --force-confold --configure --pending", limit_s=self._limits.work_s
        )
        after = self.installed()
        # A package whose unpacking was cut off is not configured but installed anew, if it is wanted.
        stuck = sorted(n for n, state in after.unfinished.items() if not state.startswith("half-installed"))
        if stuck or after.interrupted:
            raise failed_error(self._name, f"completing {', '.join(stuck) or 'an interrupted run'}", result.stdout)
        return after

    def _require_offers(self, names: Sequence[str], pins: Mapping[str, str]) -> None:
        offers = parse_offers(self._shell.read("offers", *names).stdout)
        missing = [name for name in names if name not in offers or offers[name].candidate is None]
        for name in sorted(set(names) & pins.keys() - set(missing)):
            if pins[name] not in offers[name].versions:
                missing.append(f"{name} in version {pins[name]} (but {', '.join(offers[name].versions)})")
        if missing:
            raise unknown_error(self._name, missing, mirrors=self._mirrors())

    def _plan(self, wanted: Sequence[str]) -> Plan:
        said = self._shell.read("simulate", *wanted, check=False)
        if said.exit_status:
            raise resolution_error(self._name, said.stdout, mirrors=self._mirrors())
        plan = parse_plan(said.stdout)
        if plan.removed:
            raise Rejected(
                f"{self._name}: {', '.join(sorted(plan.removed))} would have to be removed for {', '.join(wanted)}",
                hint="Remove them by `ensure_removed` first if they may go, or choose another package.",
            )
        return plan

    def _refuse_changes(self, plan: Plan, *, asked: set[str]) -> None:
        changes = {name: pair for name, pair in plan.changed.items() if name not in asked}
        if changes:
            told = ", ".join(f"{name} {old} → {new}" for name, (old, new) in sorted(changes.items()))
            raise Rejected(
                f"{self._name}: installed packages would get another version: {told}",
                hint="Build the image anew so that it is as new as the mirror, "
                "or let installed packages be updated: `may_update: true` in site.packages.",
            )

    def _require_space(self, plan: Plan) -> None:
        if not plan.unpacked:
            return
        sizes = parse_sizes(self._shell.read("sizes", *plan.unpacked).stdout)
        archives, system = parse_free(self._shell.read("free", _ARCHIVES, _SYSTEM).stdout)
        reserve_kib = self._limits.reserve_mib * 1024
        missing = shortage_kib(sizes, archives=archives, system=system, reserve_kib=reserve_kib)
        if missing > 0:
            raise Rejected(
                f"{self._name}: {len(plan.unpacked)} packages need {sizes.archives_kib / 1024:.0f} MiB to be fetched "
                f"and {sizes.unpacked_kib / 1024:.0f} MiB unpacked, {self._limits.reserve_mib} MiB are to stay free: "
                f"{missing / 1024:.0f} MiB are missing",
                hint=f"Free space on the host, on {archives[0]} or {system[0]}, or give it a larger disk.",
            )

    def _install(self, wanted: Sequence[str]) -> None:
        done = self._shell.work(f"install {shlex.join(wanted)}", limit_s=self._limits.work_s)
        said = done.stdout + done.stderr
        if done.exit_status == _NOT_FETCHED:
            raise fetch_error(self._name, said, mirrors=self._mirrors())
        if done.exit_status:
            raise failed_error(self._name, f"installing {', '.join(wanted)}", said)

    def _dpkg(self, verb: str, names: Sequence[str]) -> None:
        """Exactly these packages: apt would take others along. Cut-off ones go, too.

        apt's note that one came along for another goes first, which dpkg knows nothing of: it would count for the next
        one of the name. A note that stays is no reason to keep the package: a half-installed one cannot be marked.
        """
        done = self._shell.work(
            f"patiently apt-mark manual {shlex.join(names)} || true\n"
            f"patiently dpkg --force-remove-reinstreq {verb} -- {shlex.join(names)}",
            limit_s=self._limits.work_s,
        )
        if done.exit_status:
            raise failed_error(self._name, f"removing {', '.join(names)}", done.stdout + done.stderr)

    def _require(self, after: InstalledPackages, names: Sequence[str], pins: Mapping[str, str]) -> None:
        missing = [name for name in names if not after.has(name, pins.get(name))]
        if missing:
            raise Rejected(
                f"{self._name}: apt ended well, but {', '.join(missing)} is not installed",
                hint="Look at `dpkg -l` and /var/log/apt/history.log on the host.",
            )

    def _mirrors(self) -> str:
        """Where the host is told to get packages from, for an error's text."""
        said = self._shell.read("repositories", check=False).stdout.split()
        return ", ".join(re.sub(r"//[^/@]+@", "//", url) for url in said) or "(the host has no package sources)"


def _check(names: Sequence[str], pins: Mapping[str, str]) -> None:
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    wrong += [f"{n}={v}" for n, v in pins.items() if n not in names or not _VERSION.fullmatch(v)]
    if wrong:
        raise InvalidRequest(
            f"no package can be called {', '.join(map(repr, wrong))}, or its version is pinned without being asked for",
            hint="Give Debian package names such as `mariadb-server`, and versions of packages that are named.",
        )
