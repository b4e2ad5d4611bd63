"""The time limits of an installation come from its environment, and wrong ones are refused by name."""

from __future__ import annotations

import pytest

from levier.domain.errors import InvalidRequest
from levier.services.patience import Patience, load_patience


def test_the_defaults_are_those_of_real_servers() -> None:
    assert load_patience() == Patience()
    assert Patience().boot.first_sign_s == 900
    assert Patience().host_timeout_s == 900


def test_each_limit_is_set_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIER_POWER_TIMEOUT_S", "3")
    monkeypatch.setenv("LEVIER_SILENCE_TIMEOUT_S", "2.5")
    limits = load_patience()
    assert (limits.power_timeout_s, limits.boot.silence_s, limits.write_timeout_s) == (3, 2.5, 3600)


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "90000"])
def test_what_is_no_time_limit_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LEVIER_HOST_TIMEOUT_S", text)
    with pytest.raises(InvalidRequest, match="LEVIER_HOST_TIMEOUT_S"):
        load_patience()
