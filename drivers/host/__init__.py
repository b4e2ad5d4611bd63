"""What runs on a host and how it is configured: users, directories, files, systemd units. Over any RemoteHost."""

from drivers.host.configuration import (
    Directory,
    File,
    HostConfiguration,
    User,
    forget,
    forget_unchanged,
    keep,
    put,
    put_back,
)
from drivers.host.pace import slowness
from drivers.host.ports import listeners
from drivers.host.units import UnitState, complaints, ensure_running, observe_units, run_again, stop_again

__all__ = [
    "Directory",
    "File",
    "HostConfiguration",
    "UnitState",
    "User",
    "complaints",
    "ensure_running",
    "forget",
    "forget_unchanged",
    "keep",
    "listeners",
    "observe_units",
    "put",
    "put_back",
    "run_again",
    "slowness",
    "stop_again",
]
