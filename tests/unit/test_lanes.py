"""What one lane of the tests has started is not met by the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.rig.lane import Lane


class Rack:
    """Is up, or is not."""

    up = True


@contextmanager
def a_rack() -> Iterator[Rack]:
    rack = Rack()
    yield rack
    rack.up = False


def test_a_lane_shares_one_rack() -> None:
    lane = Lane()
    assert lane.share("rack", a_rack) is lane.share("rack", a_rack)
    assert lane.share("rack", a_rack) is not lane.share("another rack", a_rack)


def test_the_next_lane_of_the_same_process_starts_its_own() -> None:
    lane = Lane()
    first = lane.share("rack", a_rack)
    lane.end()
    second = lane.share("rack", a_rack)
    assert (first.up, second.up) == (False, True)


def test_nothing_is_left_after_the_last_lane() -> None:
    lane = Lane()
    racks = [lane.share(name, a_rack) for name in ("first", "second")]
    lane.end()
    lane.end()
    assert not any(rack.up for rack in racks)
