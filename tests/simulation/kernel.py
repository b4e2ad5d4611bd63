"""One thread plays many processes: a simulated clock, and a schedule that says who goes on at each point.

What blocks in production (the saga, its log, a machine) runs here in greenlets, each owned by a simulated process, and
gives way at every `point`. What is asynchronous in production (the conductor) runs on this event loop. Nothing depends
on the real clock, on threads or on hashing: the same schedule always gives the same history.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process is dead: no handler of its own runs to any effect."""


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(eq=False)
class Process:
    """Something that can be killed or stopped as a whole."""

    name: str
    alive: bool = True
    ended: bool = False
    """It came to its own end."""
    resumes_at: float = 0.0
    """Stopped until then (SIGSTOP)."""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)


@dataclass(eq=False)
class Thread:
    """A blocking call under way."""

    process: Process
    run: greenlet
    future: asyncio.Future[Any] | None = None
    wakes_at: float = 0.0
    error: BaseException | None = None
    result: Any = None


class Kernel(asyncio.AbstractEventLoop):
    """The scheduler. `choose(n)` picks one of n that could go on; `at_point` may kill, stop or interfere."""

    def __init__(self, choose: Callable[[int], int], *, max_points: int = 50_000) -> None:
        self.now_s = 0.0
        self.points = 0
        self.trace: list[str] = []
        self.at_point: Callable[[Process, str], None] = lambda _process, _label: None
        self._choose = choose
        self._max_points = max_points
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self.threads: list[Thread] = []
        self._hub = getcurrent()
        self._violation: Violation | None = None

    # --- for the simulated processes --------------------------------------------------------------------------------

    def clock(self) -> datetime:
        """The simulated time."""
        return EPOCH + timedelta(seconds=self.now_s)

    def tell(self, who: str, what: str) -> None:
        """A line of the history."""
        self.trace.append(f"{self.now_s:9.2f} s  {who:<12} {what}")

    def thread(self, process: Process, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Thread:
        """`call` begins to run as a thread of `process`."""
        thread = Thread(process, greenlet(lambda: self._body(thread, lambda: call(*args, **kwargs)), self._hub))
        thread.run.thread = thread
        self.threads.append(thread)
        return thread

    def forget(self, thread: Thread) -> None:
        """The thread ends where it is, without an effect."""
        if thread in self.threads:
            self.threads.remove(thread)

    def call(self, process: Process, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """What `call` returns, from a thread of `process`: the executor of an event loop."""
        future: asyncio.Future[T] = self.create_future()
        self.thread(process, call, *args, **kwargs).future = future
        return future

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """`work` is a task of `process`."""
        task = self.create_task(work)
        process.tasks.append(task)
        return task

    def point(self, label: str) -> None:
        """Anything may happen here: others go on, this process may be stopped or killed. In a thread only."""
        thread: Thread = getcurrent().thread
        self.points += 1
        if self.points > self._max_points:
            self.violate(f"no rest after {self.points} points")
        if thread.process.alive:
            self.at_point(thread.process, label)
        self._give_way(thread)

    def violate(self, promise: str) -> None:
        """A promise was broken: the history ends here. Not raised here, where something might catch it."""
        self._violation = self._violation or Violation(promise)

    def sleep(self, seconds: float) -> None:
        """The time passes. In a thread only."""
        thread: Thread = getcurrent().thread
        thread.wakes_at = self.now_s + seconds
        self._give_way(thread)

    def _give_way(self, thread: Thread) -> None:
        if thread.process.alive:
            self._hub.switch()
        if not thread.process.alive:
            raise Killed

    # --- for whoever interferes -------------------------------------------------------------------------------------

    def kill(self, process: Process, why: str) -> None:
        """The process is dead, as by SIGKILL."""
        if process.alive:
            self.tell(process.name, f"*** KILLED ({why})")
            process.alive = False
            for task in process.tasks:
                task.cancel()

    def halt(self, process: Process, seconds: float) -> None:
        """The process stands still (SIGSTOP), and goes on after that time (SIGCONT)."""
        self.tell(process.name, f"*** STOPPED for {seconds:.0f} s")
        process.resumes_at = max(process.resumes_at, self.now_s + seconds)

    # --- the schedule -----------------------------------------------------------------------------------------------

    def run_until(self, rest: Callable[[], bool], *, limit_s: float) -> None:
        """Everything went on until `rest()` held when nothing could go on at this moment. Raises Violation."""
        asyncio._set_running_loop(self)
        try:
            while self._step(rest):
                if self.now_s > limit_s:
                    raise Violation(f"not at rest after {limit_s:.0f} simulated s")
        finally:
            asyncio._set_running_loop(None)

    def _step(self, rest: Callable[[], bool]) -> bool:
        if self._violation is not None:
            raise self._violation
        self._bury()
        if self._ready:
            handles, self._ready = self._ready, []
            for handle in handles:
                if not handle.cancelled():
                    handle._run()
            return True
        able = [t for t in self.threads if max(t.wakes_at, t.process.resumes_at) <= self.now_s]
        if able:
            self._go_on(able[self._choose(len(able)) if len(able) > 1 else 0])
            return True
        return not rest() and self._pass_time()

    def _go_on(self, thread: Thread) -> None:
        thread.run.switch()
        if thread.run.dead:
            self.threads.remove(thread)
            self._conclude(thread)

    def _conclude(self, thread: Thread) -> None:
        if isinstance(thread.error, Killed) or not thread.process.alive:
            return
        future = thread.future
        if future is None:
            if thread.error is not None:
                raise thread.error
        elif not future.done():
            future.set_exception(thread.error) if thread.error is not None else future.set_result(thread.result)

    def _body(self, thread: Thread, call: Callable[[], Any]) -> None:
        try:
            thread.result = call()
        except GreenletExit:
            raise
        except (Exception, Killed) as error:  # noqa: BLE001 - handed to whoever waits for the thread
            thread.error = error

    def _bury(self) -> None:
        """Threads of dead processes are gone; whatever they try on the way out fails."""
        for thread in [t for t in self.threads if not t.process.alive]:
            if thread.run:
                thread.run.switch()  # raises Killed in it
            self.threads.remove(thread)

    def _pass_time(self) -> bool:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        due = [max(t.wakes_at, t.process.resumes_at) for t in self.threads]
        due += [self._timers[0][0]] if self._timers else []
        if not due:
            return False
        self.now_s = max(self.now_s, min(due))
        while self._timers and self._timers[0][0] <= self.now_s:
            self._ready.append(heapq.heappop(self._timers)[2])
        return True

    # --- what asyncio asks of a loop --------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now_s

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, **kwargs)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when they come up."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.trace.append(f"asyncio: {context.get('message')}: {context.get('exception')!r}")
