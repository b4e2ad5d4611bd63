"""The ledger's file: order, filters, following, and what a killed writer leaves."""

from __future__ import annotations

import threading
from pathlib import Path

from levier.lab.ledger import EventKind, LedgerWriter, follow_events, read_events


def test_entries_are_numbered_filtered_and_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = LedgerWriter(path)
    writer.append(kind=EventKind.LAB, event="up")
    writer.append(kind=EventKind.POWER, node="a1-01", to="on")
    writer.append(kind=EventKind.POWER, node="a1-02", to="on")
    writer.close()
    writer = LedgerWriter(path)
    writer.append(kind=EventKind.BOOT, node="a1-02", device="pxe")
    writer.close()
    assert [event.seq for event in read_events(path)] == [1, 2, 3, 4]
    assert [event.seq for event in read_events(path, node="a1-02")] == [3, 4]
    assert [event.seq for event in read_events(path, kind="power", since=2)] == [3]
    assert next(read_events(path)).time.endswith("+00:00")


def test_a_half_written_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = LedgerWriter(path)
    writer.append(kind=EventKind.LAB, event="up")
    writer.close()
    with path.open("a") as file:
        file.write('{"seq": 2, "time": "20')
    assert [event.seq for event in read_events(path)] == [1]
    writer = LedgerWriter(path)
    assert writer.append(kind=EventKind.LAB, event="again").seq == 2
    writer.close()
    assert [event.detail["event"] for event in read_events(path)] == ["up", "again"]


def test_following_sees_what_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = LedgerWriter(path)
    writer.append(kind=EventKind.LAB, event="up")
    followed = follow_events(path, since=1, poll_s=0.01)
    timer = threading.Timer(0.05, lambda: writer.append(kind=EventKind.POWER, node="a1-01", to="on"))
    timer.start()
    assert next(followed).detail == {"to": "on"}
    timer.join()
    writer.close()
