"""A saga whose side effects are files: as real as a disk, and quick.

The destructive effect leaves its mark with O_EXCL in the very system call that makes it: the kernel refuses a
repetition, which is better than a count that somebody must remember to look at.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from levier.domain.operation import Fence, JsonMap
from levier.saga.engine import Saga
from levier.saga.step import Checkpoint, Step, Undo, step

TARGET = "n1"
OLD_CONFIG = "written by somebody before Levier\n"


@dataclass(frozen=True, slots=True)
class Files:
    """What the steps work on."""

    saga: Saga
    fence: Fence
    root: Path
    target: str = TARGET

    @property
    def name_file(self) -> Path:
        return self.root / "names" / self.target

    @property
    def home(self) -> Path:
        return self.root / "homes" / self.name_file.read_text()

    @property
    def image(self) -> Path:
        return self.root / "images" / self.target

    @property
    def config(self) -> Path:
        return self.root / "config" / self.target

    def guard(self) -> None:
        self.saga.permit(self.fence)


def prepare(root: Path, *targets: str) -> None:
    """The world as it is before any operation."""
    for folder in ("names", "homes", "images", "config"):
        (root / folder).mkdir()
    for target in targets or (TARGET,):
        (root / "config" / target).write_text(OLD_CONFIG)


def _free(ctx: Files, _checkpoint: Checkpoint) -> JsonMap:
    ctx.saga.release_lease(ctx.fence, ctx.target)
    return {}


@step(name="acquire-lease", title="Hold the node", undo=_free, needs_lease=False)
def acquire_lease(ctx: Files) -> JsonMap:
    return {"generation": ctx.saga.acquire_lease(ctx.fence, ctx.target).generation}


def _forget_name(ctx: Files, _checkpoint: Checkpoint) -> JsonMap:
    ctx.name_file.unlink(missing_ok=True)
    return {}


@step(name="allocate-name", title="Allocate a name", undo=_forget_name)
def allocate_name(ctx: Files) -> JsonMap:
    """In a step of its own, so that a retry reuses it."""
    if not ctx.name_file.exists():
        ctx.guard()
        draft = ctx.name_file.with_suffix(".draft")
        draft.write_text(secrets.token_hex(8))
        draft.rename(ctx.name_file)
    return {"name": ctx.name_file.read_text()}


def _remove_home(ctx: Files, _checkpoint: Checkpoint) -> JsonMap:
    if ctx.home.exists():
        ctx.home.rmdir()
    return {}


@step(name="make-home", title="Make the directory", undo=_remove_home)
def make_home(ctx: Files) -> JsonMap:
    if not ctx.home.exists():
        ctx.guard()
        ctx.home.mkdir()
    return {"home": str(ctx.home)}


def _remove_image(ctx: Files, _checkpoint: Checkpoint) -> JsonMap:
    ctx.image.unlink(missing_ok=True)
    return {}


@step(name="write-image", title="Write the image", undo=_remove_image)
def write_image(ctx: Files) -> JsonMap:
    """Destructive: the file must not be there, or open fails."""
    if not ctx.image.exists():
        ctx.guard()
        with ctx.image.open("x") as image:
            image.write("image")
    return {"size": 5}


def _config_now(ctx: Files) -> JsonMap:
    return {"config": ctx.config.read_text()}


def _restore_config(ctx: Files, checkpoint: Checkpoint) -> JsonMap:
    ctx.config.write_text(checkpoint.before["config"])
    return {}


@step(name="configure", title="Configure", undo=_restore_config, before=_config_now)
def configure(ctx: Files) -> JsonMap:
    wanted = f"name={ctx.name_file.read_text()}\n"
    if ctx.config.read_text() != wanted:
        ctx.guard()
        ctx.config.write_text(wanted)
    return {}


@step(name="verify", title="Verify", undo=Undo.NO_EFFECT)
def verify(ctx: Files) -> JsonMap:
    return {"name": ctx.name_file.read_text()}


def _hold_again(ctx: Files, _checkpoint: Checkpoint) -> JsonMap:
    return {"generation": ctx.saga.acquire_lease(ctx.fence, ctx.target).generation}


@step(name="release-lease", title="Give the node back", undo=_hold_again, needs_lease=False)
def release_lease(ctx: Files) -> JsonMap:
    """Its undo takes the node again, so that a rollback of a finished operation is fenced like any other."""
    ctx.saga.release_lease(ctx.fence, ctx.target)
    return {}


STEPS: tuple[Step[Files], ...] = (
    acquire_lease,
    allocate_name,
    make_home,
    write_image,
    configure,
    verify,
    release_lease,
)


@dataclass(frozen=True, slots=True)
class FileCase:
    """The saga of this module as the fault harness wants it (saga_faults.SagaCase)."""

    root: Path
    target: str = TARGET
    steps: tuple[Step[Files], ...] = STEPS

    def context(self, saga: Saga, fence: Fence) -> Files:
        return Files(saga, fence, self.root, self.target)

    def check_done(self) -> None:
        name = (self.root / "names" / self.target).read_text()
        assert [p.name for p in (self.root / "homes").iterdir()] == [name], "one home, and it has the allocated name"
        assert (self.root / "images" / self.target).read_text() == "image"
        assert (self.root / "config" / self.target).read_text() == f"name={name}\n"

    def check_undone(self) -> None:
        left = [str(p) for folder in ("names", "homes", "images") for p in (self.root / folder).iterdir()]
        assert [p for p in left if not p.endswith(".draft")] == []
        assert (self.root / "config" / self.target).read_text() == OLD_CONFIG
