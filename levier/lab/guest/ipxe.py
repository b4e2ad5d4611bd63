"""Reads iPXE scripts and does what iPXE would do (ipxe.org/scripting): the commands that boot scripts use.

Written as coroutines that leave all waiting to what they are given, so that it serves a process of its own
(`levier.lab.guest.blocking`) as well as hundreds of machines in one event loop.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urljoin

from levier.domain.errors import DriverError

_SETTING = re.compile(r"\$\{([^}:]+)(?::([a-z0-9]+))?\}")
_OPERATOR = re.compile(r"\s(\|\||&&)\s")
_MOST_LINES = 10_000
"""A script that loops for longer is stuck; iPXE itself would loop for ever."""


class Verdict(StrEnum):
    """How a network boot went on."""

    BOOT = "boot"
    EXIT = "exit"
    REBOOT = "reboot"
    POWER_OFF = "power-off"


class ScriptFailed(Exception):
    """A command of the script failed and nothing caught it: iPXE gives up and returns to the firmware."""


@dataclass(slots=True)
class Fetchers:
    """How scripts and files are fetched, which raises DriverError, and how time passes."""

    script: Callable[[str], Awaitable[bytes]]
    file: Callable[[str], Awaitable[int]]
    sleep: Callable[[float], Awaitable[None]]
    say: Callable[[str], None]


@dataclass(slots=True)
class Ipxe:
    """An interpreter with its settings; `command_line` is that of the kernel, once there is one."""

    fetchers: Fetchers
    settings: dict[str, str]
    command_line: str | None = None
    _base: str = ""
    _lines_run: int = field(default=0)

    async def chain(self, url: str) -> Verdict:
        """The script at `url` was run to its end. Raises ScriptFailed."""
        outer, self._base = self._base, urljoin(self._base, url)
        try:
            text = (await self.fetchers.script(self._base)).decode(errors="replace")
            if not text.startswith("#!ipxe"):
                raise ScriptFailed(f"{self._base} is no iPXE script")
            return await self._run(text.splitlines())
        except DriverError as error:
            raise ScriptFailed(str(error)) from error
        finally:
            self._base = outer

    async def _run(self, lines: list[str]) -> Verdict:
        labels = {line[1:].strip(): number for number, line in enumerate(lines) if line.startswith(":")}
        number = 0
        while number < len(lines):
            self._lines_run += 1
            if self._lines_run > _MOST_LINES:
                raise ScriptFailed("the script does not come to an end")
            line = lines[number].strip()
            number += 1
            if not line or line[0] in "#:":
                continue
            outcome = await self._line(line)
            if isinstance(outcome, Verdict):
                return outcome
            if outcome is not None:
                if outcome not in labels:
                    raise ScriptFailed(f"no label {outcome}")
                number = labels[outcome]
        return Verdict.EXIT

    async def _line(self, line: str) -> Verdict | str | None:
        """One line with its || and &&: a verdict, the label to go on at, or None for the next line."""
        pieces = _OPERATOR.split(line)
        failure: ScriptFailed | None = None
        outcome: Verdict | str | None = None
        for operator, command in zip(["&&", *pieces[1::2]], pieces[::2], strict=True):
            if (operator == "&&") is (failure is not None):
                continue
            failure = None
            try:
                outcome = await self._command(self._expand(command).split())
            except (DriverError, ScriptFailed) as error:
                failure = ScriptFailed(str(error))
                self.fetchers.say(f"ipxe: {command.strip()}: {error}")
            if outcome is not None:
                return outcome
        if failure is not None:
            raise failure
        return None

    def _expand(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            found = self.settings.get(match[1].rpartition("/")[2] if match[1].startswith("net") else match[1], "")
            return found.replace(":", "-") if match[2] == "hexhyp" else found

        return _SETTING.sub(value, text)

    async def _command(self, words: list[str]) -> Verdict | str | None:
        if not words:
            return None
        name, arguments = words[0], words[1:]
        if name in ("exit", "reboot", "poweroff"):
            return self._leave(name, arguments)
        if name == "goto":
            return arguments[0]
        if name == "boot" and not arguments:
            if self.command_line is None:
                raise ScriptFailed("boot: no kernel")
            return Verdict.BOOT
        if name == "chain":
            return await self._chain(arguments)
        if not await self._act(name, arguments):
            raise ScriptFailed(f"{name}: command not known to this firmware")
        return None

    @staticmethod
    def _leave(name: str, arguments: list[str]) -> Verdict:
        if name == "exit" and arguments and arguments[0] != "0":
            raise ScriptFailed(f"the script left with status {arguments[0]}")
        return {"exit": Verdict.EXIT, "reboot": Verdict.REBOOT, "poweroff": Verdict.POWER_OFF}[name]

    async def _chain(self, arguments: list[str]) -> Verdict | None:
        replaces = "--replace" in arguments or "-r" in arguments
        verdict = await self.chain(_operands(arguments)[0])
        # A chained script that just ends returns to this one, unless it took its place.
        return None if verdict is Verdict.EXIT and not replaces else verdict

    async def _act(self, name: str, arguments: list[str]) -> bool:
        """The command was carried out; False for one that is not known."""
        if name in ("initrd", "imgfetch", "module"):
            await self.fetchers.file(urljoin(self._base, _operands(arguments)[0]))
        elif name == "kernel":
            await self._kernel(arguments)
        elif name == "sleep":
            await self.fetchers.sleep(float(arguments[0]))
        elif (action := self._actions().get(name)) is not None:
            action(arguments)
        else:
            return False
        return True

    def _actions(self) -> dict[str, Callable[[list[str]], None]]:
        def nothing(arguments: list[str]) -> None:
            """What this firmware has done already (the link, DHCP) or has nothing of (images in memory)."""

        return {
            **dict.fromkeys(("dhcp", "ifopen", "ifconf", "imgfree", "imgstat", "clear", "console"), nothing),
            "imgargs": lambda arguments: self._set_command_line(arguments[1:]),
            "echo": lambda arguments: self.fetchers.say(" ".join(arguments)),
            "set": lambda arguments: self.settings.update({arguments[0]: " ".join(arguments[1:])}),
            "isset": lambda arguments: _require(bool(arguments), "isset: empty"),
            "iseq": lambda arguments: _require(len(set(arguments)) == 1 and len(arguments) == 2, "iseq: different"),
        }

    async def _kernel(self, arguments: list[str]) -> None:
        operands = _operands(arguments)
        await self.fetchers.file(urljoin(self._base, operands[0]))
        self._set_command_line(operands[1:])

    def _set_command_line(self, words: list[str]) -> None:
        self.command_line = " ".join(words)


def _operands(arguments: list[str]) -> list[str]:
    """The arguments after the options; `--name` takes a value."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("--name", "-n", "--timeout", "-t"):
            rest.pop(0)
    if not rest:
        raise ScriptFailed("an address is missing")
    return rest


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ScriptFailed(message)
