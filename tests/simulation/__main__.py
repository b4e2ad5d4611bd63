"""`python -m tests.simulation --seconds 60`: as many histories as fit, on every core; exit 1 when a promise broke."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tests.simulation.search import Found, search


def main() -> int:
    """The figures are printed, and the first broken promise with its history and how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="play the histories of this seed only")
    arguments = parser.parse_args()
    began = time.monotonic()
    found = search(arguments.seed) if arguments.seed is not None else _for(arguments.seconds)
    _print(found, time.monotonic() - began)
    return 0 if found.seed is None else 1


def _for(seconds: float) -> Found:
    """What the seeds from a random one on come to, until the time is over or a promise is broken."""
    total, deadline = Found(), time.monotonic() + seconds
    number = secrets.randbelow(10**9)
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        running: set[Future[Found]] = set()
        while True:
            while len(running) < cores and time.monotonic() < deadline and total.seed is None:
                running.add(pool.submit(search, number))
                number += 1
            if not running:
                return total
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                total.add(future.result())


def _print(found: Found, took_s: float) -> None:
    a_minute = found.histories / took_s * 60
    print(f"histories    {found.histories} in {took_s:.0f} s ({a_minute:.0f} a minute), {found.points} points")
    print(f"operations   {', '.join(f'{state} {count}' for state, count in found.ends.most_common())}")
    print(f"happened     {', '.join(f'{what} {count}' for what, count in found.happened.most_common())}")
    print(f"broken       {0 if found.seed is None else 1}")
    if found.seed is not None:
        print(f"\nsee it again: make test-simulation SEED={found.seed}\n\n{found.broken}")


if __name__ == "__main__":
    sys.exit(main())
