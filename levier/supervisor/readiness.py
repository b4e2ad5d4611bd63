"""Asks processes whether they are ready, from within their network namespace."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from levier.supervisor.lineage import enter_network_namespace
from levier.supervisor.spec import SETTLED_S, FileReady, HttpReady, ProcessSpec

_ASK_TIMEOUT_S = 5.0


class Prober:
    """One thread per network namespace, which enters it once: setns(2) moves a thread, not a process."""

    def __init__(self) -> None:
        self._threads: dict[str | None, ThreadPoolExecutor] = {}

    async def is_ready(self, spec: ProcessSpec, *, started: float) -> bool:
        """Whether the process, begun at monotonic time `started`, is ready now. Safe to repeat."""
        match spec.ready:
            case HttpReady(url):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._thread(spec.namespace), _answers, url)
            case FileReady(path):
                return path.exists()
            case None:
                return time.monotonic() - started >= SETTLED_S

    def close(self) -> None:
        """The threads end as soon as their last question is answered. Safe to repeat."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def _thread(self, namespace: str | None) -> ThreadPoolExecutor:
        if namespace not in self._threads:
            enter = (lambda: enter_network_namespace(namespace)) if namespace else None
            self._threads[namespace] = ThreadPoolExecutor(max_workers=2, initializer=enter)
        return self._threads[namespace]


def _answers(url: str) -> bool:
    try:
        # The machine's proxy settings are for the way out, not for its own services.
        with httpx.Client(trust_env=False, timeout=_ASK_TIMEOUT_S) as client:
            return client.get(url).status_code == 200
    except httpx.HTTPError:
        return False
