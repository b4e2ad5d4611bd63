"""Searches for a history that breaks a promise. A seed stands for a batch of histories, always the same ones."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from dataclasses import dataclass, field
from unittest.mock import patch

import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.internal.conjecture.providers import GLOBAL_CONSTANTS, HypothesisProvider

from tests.simulation.history import History, Product
from tests.simulation.kernel import Violation
from tests.simulation.scenario import Scenario, in_words, scenarios
from tests.simulation.smaller import smallest

BATCH = 100
"""Histories of one seed."""
USUAL = Product()


@dataclass
class Found:
    """What a search came to."""

    histories: int = 0
    points: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    """Faults, outages and interruptions that took place."""
    seed: int | None = None
    broken: str = ""
    """The promise that was broken first, and the history, made small."""

    def add(self, other: Found) -> None:
        """The other search's figures, and its finding if there is none yet."""
        self.histories += other.histories
        self.points += other.points
        self.ends += other.ends
        self.happened += other.happened
        if self.seed is None:
            self.seed, self.broken = other.seed, other.broken


def search(number: int, *, product: Product = USUAL, batch: int = BATCH, shrink: bool = True) -> Found:
    """The histories of seed `number` were played until one broke a promise, which is then told in words."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    found, failing = Found(), list[Scenario]()

    @seed(number)
    @settings(
        max_examples=batch,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        print_blob=False,
    )
    @given(scenarios())
    def play(scenario: Scenario) -> None:
        history = History(scenario, product)
        try:
            history.play()
        except BaseException:
            failing.append(scenario)
            raise
        finally:
            _count(found, history)

    try:
        # A seed must mean the same histories whatever is imported: Hypothesis draws from the constants of all code.
        with patch.object(HypothesisProvider, "_local_constants", GLOBAL_CONSTANTS):
            play()
    except Exception as error:  # noqa: BLE001 - a defect of the product is a finding like a broken promise
        found.seed = number
        found.broken = _told(failing[-1], product) if failing else repr(error)
    return found


def _count(found: Found, history: History) -> None:
    found.histories += 1
    found.points += history.kernel.points
    found.ends += Counter(record.state.value for record in history.log.records.values())
    found.happened += Counter(history.happened)


def _told(scenario: Scenario, product: Product) -> str:
    promise = _broken(scenario, product)
    small = smallest(scenario, lambda each: _broken(each, product).partition(":")[0] == promise.partition(":")[0])
    return f"{_broken(small, product, with_trace=True)}\n\nscenario\n{in_words(small)}"


def _broken(scenario: Scenario, product: Product, *, with_trace: bool = False) -> str:
    """The promise that the scenario breaks; empty when it breaks none."""
    history = History(scenario, product)
    try:
        history.play()
    except Violation as violation:
        return "\n".join([str(violation), *_readable(history.kernel.trace)]) if with_trace else str(violation)
    except Exception as error:  # noqa: BLE001 - see search
        where = traceback.format_exc(limit=-3) if with_trace else ""
        return "\n".join([repr(error), where, *_readable(history.kernel.trace)]) if with_trace else repr(error)
    return ""


def _readable(trace: list[str]) -> list[str]:
    """The trace; of a line that comes again and again but for its time, the first three and how many more there are."""
    lines: list[str] = []
    times: Counter[str] = Counter()
    for line in trace:
        what = line[12:]
        times[what] += 1
        if times[what] <= 3:
            lines.append(line)
    return lines + [f"({count - 3} times more: {what.strip()})" for what, count in times.items() if count > 3]
