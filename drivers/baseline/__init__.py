"""A host's baseline configuration: rendered from a specification, applied, verified and taken back over SSH."""

from drivers.baseline.apply import AppliedBaseline, apply_baseline, restore_baseline
from drivers.baseline.clock import TOLERANCE_S, clock_offset_s, verify_clock
from drivers.baseline.effects import SysctlRefusal
from drivers.baseline.render import FileKind, RenderedFile, render_baseline
from drivers.baseline.spec import BaselineSpec, HostEntry, SysctlSetting
from drivers.baseline.state import BaselineState, observe_baseline
from drivers.baseline.verify import AppliedRevision, Deviation, read_revision, verify_baseline

__all__ = [
    "TOLERANCE_S",
    "AppliedBaseline",
    "AppliedRevision",
    "BaselineSpec",
    "BaselineState",
    "Deviation",
    "FileKind",
    "HostEntry",
    "RenderedFile",
    "SysctlRefusal",
    "SysctlSetting",
    "apply_baseline",
    "clock_offset_s",
    "observe_baseline",
    "read_revision",
    "render_baseline",
    "restore_baseline",
    "verify_baseline",
    "verify_clock",
]
