"""What a failed step says goes into the log, and to Prefect, without any secret that Levier holds."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from levier.domain.errors import Rejected, UndoFailed
from levier.domain.operation import JsonMap, OperationState, PlannedStep
from levier.saga.engine import Saga
from levier.saga.proof import seen_by
from levier.saga.step import Checkpoint, Step
from levier.services.masking import SecretMask
from levier.services.secrets import SecretStore
from tests.simulation.memory_log import MemoryLog

VERSION = "1.0.0"
BMC, DATABASE = 'p/ss word&"8', "0123456789abcdefghijklmnopqrstuv"
KEY_LINE = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIB"
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    store = SecretStore(tmp_path / "secrets")
    store.set("rack-bmc", {"username": "administrator", "password": BMC})
    store.set("nova.database", {"password": DATABASE})
    store.set("host-key.a1", {"operation": "expand-01234567", "private": PEM, "public": "ssh-ed25519 AAAA"})
    store.set("short", {"password": "abc1234"})
    return store


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"mysql://nova:{DATABASE}@10.0.0.1/nova: refused", "mysql://nova:***@10.0.0.1/nova: refused"),
        (f"login {BMC!s} failed", "login *** failed"),
        ("http://x:p%2Fss%20word%26%228@y", "http://x:***@y"),
        ('{"password": "p/ss word&\\"8"}', '{"password": "***"}'),
        (PEM, "-----BEGIN PRIVATE KEY-----\n***\n-----END PRIVATE KEY-----\n"),
        ("administrator in expand-01234567 said abc1234", "administrator in expand-01234567 said abc1234"),
    ],
)
def test_secrets_are_masked_however_they_are_written_and_nothing_else_is(
    store: SecretStore, said: str, shown: str
) -> None:
    assert SecretMask(store)(said) == shown


def test_a_secret_that_cannot_be_read_costs_nobody_the_text(store: SecretStore, tmp_path: Path) -> None:
    (tmp_path / "secrets/rack-bmc.secret").write_bytes(b"damaged")
    assert SecretMask(store)(f"{DATABASE} and {BMC}") == f"*** and {BMC}"


def raises(_ctx: object) -> JsonMap:
    try:
        raise ValueError(f"connection = mysql://nova:{DATABASE}@db")
    except ValueError as error:
        raise Rejected(f"nova-manage said {DATABASE}", hint=f"change {BMC}") from error


def raises_on_undo(ctx: object, _checkpoint: Checkpoint) -> JsonMap:
    return raises(ctx)


def test_a_step_that_quotes_a_secret_tells_it_to_nobody(store: SecretStore) -> None:
    log = MemoryLog()
    saga = Saga(log, lambda: datetime.now(UTC), VERSION, conceal=SecretMask(store))
    step: Step[object] = Step(name="schema", title="Schema", do=raises, undo=raises_on_undo)
    operation = saga.create(kind="install", targets=["n1"], plan=[PlannedStep("schema", "n1")])
    fence = saga.begin(operation.id, worker="w")
    saga.set_state(fence, OperationState.RUNNING)
    with pytest.raises(Rejected, match=r"nova-manage said \*\*\*") as failed:
        saga.run(fence, step, None, target="n1")
    with pytest.raises(UndoFailed) as not_undone:
        saga.undo(fence, step, None, target="n1")
    told = [*map(traceback.format_exception, (failed.value, not_undone.value)), saga.status(operation.id)]
    assert failed.value.hint == "change ***"
    assert DATABASE not in repr(told)
    assert BMC not in repr(told)
    assert "***" in repr(saga.status(operation.id))


def test_what_could_not_be_seen_after_an_undo_is_told_without_secrets(store: SecretStore) -> None:
    assert seen_by([raises], None, SecretMask(store)) == {"problems": ["Rejected: nova-manage said ***"]}
