"""`--machine`: what single machines of a rack have, as typed on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from levier.domain.errors import InvalidRequest
from levier.lab.spec import ChassisKind, Difference

FORM = "NODE:KEY=VALUE[,KEY=VALUE]"
_NUMBERS = {"memory-mib": "memory_mib", "cpus": "cpus", "disk-gib": "disk_gib"}
_CHASSIS = "chassis"


def machine_differences(options: Iterable[str]) -> dict[str, Difference]:
    """What each named machine has that the others have not, such as `b1-01:chassis=qemu,memory-mib=3072`. Pure.

    Raises InvalidRequest for anything of another form, an unknown word, and what is said twice.
    """
    found: dict[str, Difference] = {}
    for option in options:
        name, colon, settings = option.partition(":")
        if not (name and colon and settings):
            raise InvalidRequest(f"--machine {option!r} is not {FORM}", hint=_example())
        if name in found:
            raise InvalidRequest(f"--machine {name} is given twice", hint="separate what it has by commas")
        found[name] = _difference(name, settings)
    return found


def _difference(name: str, settings: str) -> Difference:
    chassis: ChassisKind | None = None
    numbers: dict[str, int] = {}
    for setting in settings.split(","):
        key, _, value = setting.partition("=")
        if key == _CHASSIS and chassis is None:
            chassis = _chassis(name, value)
        elif key in _NUMBERS and _NUMBERS[key] not in numbers:
            numbers[_NUMBERS[key]] = _number(name, setting)
        elif key == _CHASSIS or key in _NUMBERS:
            raise InvalidRequest(f"--machine {name}: {key} is given twice")
        else:
            raise InvalidRequest(f"--machine {name}: {setting!r} is not understood", hint=_example())
    return Difference(chassis=chassis, **numbers)


def _chassis(name: str, value: str) -> ChassisKind:
    try:
        return ChassisKind(value)
    except ValueError as error:
        kinds = ", ".join(ChassisKind)
        raise InvalidRequest(f"--machine {name}: there is no chassis {value!r}", hint=f"there are: {kinds}") from error


def _number(name: str, setting: str) -> int:
    key, _, value = setting.partition("=")
    if not (value.isascii() and value.isdigit()):
        raise InvalidRequest(f"--machine {name}: {key} is a whole number, not {value!r}")
    return int(value)


def _example() -> str:
    return f"for instance --machine b1-01:chassis=qemu,memory-mib=3072; keys are {', '.join((_CHASSIS, *_NUMBERS))}"
