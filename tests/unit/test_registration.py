"""When a compute host counts as registered: nova hears of it, now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from levier.domain.errors import Rejected
from levier.saga.step import Checkpoint
from levier.services.context import NodeContext
from levier.services.steps import cloud


class Nova:
    """What nova says of one host, look after look; the last for ever."""

    def __init__(self, *said: tuple[str, str] | None) -> None:
        self.said = list(said)
        self.looks = 0
        self.compute = self
        self.deleted: list[str] = []

    def services(self, *, binary: str, host: str) -> Iterable[Any]:
        assert (binary, host) == ("nova-compute", "b1-01")
        now = self.said[min(self.looks, len(self.said) - 1)]
        self.looks += 1
        return [] if now is None else [SimpleNamespace(host=host, state=now[0], updated_at=now[1])]

    def delete_service(self, service: Any) -> None:
        self.deleted.append(service.host)


def at_work(nova: Nova, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nova answers the steps."""

    @contextmanager
    def connection(_: object) -> Iterator[Nova]:
        yield nova

    monkeypatch.setattr(cloud, "_cloud", connection)


def registered(nova: Nova, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    at_work(nova, monkeypatch)
    monkeypatch.setattr(cloud, "_REGISTRATION_S", 0.01)
    monkeypatch.setattr("levier.services.polling.slowness", lambda _: 1.0)
    monkeypatch.setattr("levier.services.polling.INTERVAL_S", 0.0)
    ctx = SimpleNamespace(name="b1-01", own_host=lambda: None, check=lambda: None)
    return dict(cloud.registered.do(cast(NodeContext, ctx)))


def test_a_host_that_nova_hears_of_for_the_first_time_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registered(Nova(None, ("up", "10:00:00")), monkeypatch) == {"changed": ["b1-01"]}


def test_a_host_is_heard_of_again_before_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    nova = Nova(("up", "10:00:00"), ("up", "10:00:00"), ("up", "10:00:10"))
    assert registered(nova, monkeypatch) == {"changed": []}
    assert nova.looks == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([None], "b1-01 did not register within 0 s: nova has never heard of it"),
        ([("down", "10:00:00"), ("down", "10:01:00")], "nova sees it down, heard of at 10:01:00"),
        ([("up", "10:00:00")], "nova sees it up, heard of at 10:00:00"),
    ],
)
def test_a_host_that_is_not_heard_of_is_told(
    said: list[tuple[str, str] | None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Rejected, match=told) as caught:
        registered(Nova(*said), monkeypatch)
    assert "journalctl -u levier-nova-compute.service" in caught.value.hint


@pytest.mark.parametrize(("state", "forgotten"), [("ready", ["b1-01"]), ("in_service", [])])
def test_nova_forgets_a_host_that_was_not_in_service_whatever_it_had_heard_meanwhile(
    state: str, forgotten: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nova = Nova(("up", "10:00:00"))
    ran: list[str] = []
    at_work(nova, monkeypatch)
    ctx = SimpleNamespace(
        name="b1-01",
        own_host=lambda: SimpleNamespace(run=lambda command, **_: ran.append(command)),
    )
    assert cloud._forget_compute(
        cast(NodeContext, ctx), Checkpoint(before={"state": state}, outputs=None, attempts=1)
    ) == {"changed": forgotten}
    assert nova.deleted == forgotten
    assert ran == (["systemctl stop -- levier-nova-compute.service"] if forgotten else [])
