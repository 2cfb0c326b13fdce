"""The workers: one actor on each machine, work handed out as they are free, and again where one is lost.

Results come back in the order of the work, whoever did it and however often. A worker that dies loses what it was at;
its machine gets a new one, and the work goes to whoever is free. Work that takes far longer than other work is given
to a second worker that has nothing else to do, and the first answer counts. Machines that join the cluster later get a
worker with the next piece of work.

Embedding does not go by Ray Data (`map_batches` over an `ActorPoolStrategy`; Ray 2.60 was tried, by a script that is
not kept here), since work stays with the actor that got it. With one of three workers stopped (SIGSTOP) not one of the
batches that were left came within two minutes, and all when it was let go on; after the loss of a machine none came
within two minutes in three tries of four. The crew was without a result for 7 and 3 s. A killed process cost Ray Data
seconds and no bit, too. It is fed by a task on a machine that sees the files, not by the process that reads them. 60
batches took 30 s of all processes' processor time, by the crew 11 s; 6 s of it is the work.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gapsel import _native
from gapsel.backends.ray.cluster import is_loss
from gapsel.backends.ray.work import TRIES, Member, Work
from gapsel.errors import GapselError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

# Pieces of work that a worker has at a time: one to do, one to find when it is done.
_AT_A_TIME = 2
# How far ahead of the result that is next work is handed out, in pieces for each worker.
_AHEAD = 4
# Seconds without a single worker after which there is none to be had; and between two looks at the machines.
_PATIENCE = 90.0
_LOOK = 2.0


class Worker:
    """An actor: it makes its tool once, and does one item after another with it."""

    def __init__(self, make: Callable[[int], Callable[[Any], Any]], threads: int) -> None:
        self._do = make(threads)

    def hello(self) -> tuple[str, str, int]:
        """Return gapsel's version and what the tool says of its machine, to be the same on all, and the process."""
        return _native.__version__, getattr(self._do, "identity", ""), os.getpid()

    def do(self, item: Any) -> Any:  # noqa: ANN401 - the tool's business
        """Return what the tool makes of an item."""
        return self._do(item)


class Crew(Generic[Item, Result]):
    """Workers with the tool that ``make(threads)`` gives, on every machine with a processor (``gpus``: a GPU) free.

    ``threads`` 0 means all processors of each machine; ``gpus`` is the share of a GPU that a worker takes, so that 0.5
    puts two on each. A tool's ``identity``, if it has one, says what of its machine may change a result's last bits: a
    machine that differs in it from the first is left out.
    """

    def __init__(self, make: Callable[[int], Callable[[Item], Result]], threads: int = 0, gpus: float = 0.0) -> None:
        self._make, self._threads, self._gpus = make, threads, gpus
        self._members: list[Member] = []
        self._seats = 0
        self._deaths: dict[str, int] = {}
        self._looked = float("-inf")
        self._alike: str | None = None
        self._reason = f"its {'GPUs' if gpus else 'processors'} are taken by others"
        weakref.finalize(self, _dismiss, self._members)

    def map(
        self, items: Iterator[Callable[[], Item]], again: Callable[[Exception], bool] = is_loss
    ) -> Iterator[Result]:
        """Yield what the workers make of each item, in order; items are called for what is sent, each time anew.

        ``again`` says of an error of a worker's whether to try once more, having changed what can be changed. Raises
        the others, that of the first item first, and ResourceError where there are no workers, or work is lost too
        often.
        """
        work: Work[Item, Result] = Work(items)
        idle_since = time.monotonic()
        try:
            while work.pull(_AHEAD * max(len(self._members), 2)):
                self._look_around()
                self._hand_out(work)
                self._collect(work, again)
                if any(member.joined for member in self._members):
                    idle_since = time.monotonic()
                self._check_patience(idle_since)
                yield from work.take()
        finally:
            for reference, (member, _, _) in work.running.items():
                member.behind.add(reference)

    def identity(self) -> str:
        """Wait for a worker, and return what all of them are alike in. Raises ResourceError where there are none."""
        nothing: Work[Item, Result] = Work(iter(()))
        since = time.monotonic()
        while self._alike is None:
            self._look_around()
            self._collect(nothing, is_loss)
            self._check_patience(since)
        return self._alike

    def _check_patience(self, since: float) -> None:
        if time.monotonic() - since > _PATIENCE:
            msg = f"no worker of the cluster began within {_PATIENCE:.0f} s ({self._reason}): add machines"
            raise ResourceError(msg)

    def dismiss(self) -> None:
        """Let all workers go, and with them what they take of their machines."""
        _dismiss(self._members)

    def _look_around(self) -> None:
        """Start a worker on every machine that has none, but for those where one after another died."""
        if time.monotonic() - self._looked < _LOOK:
            return
        import ray

        self._looked = time.monotonic()
        for node in ray.nodes():
            name, there = node["NodeID"], node["Resources"]
            count = int(there.get("GPU", 0) / self._gpus) if self._gpus else int(there.get("CPU", 0) >= 1)
            missing = count - sum(member.node == name for member in self._members)
            if node["Alive"] and self._deaths.get(name, 0) < TRIES:
                for _ in range(missing):
                    self._start(name, max(1, int(there.get("CPU", 1)) // count))

    def _start(self, node: str, processors: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        threads = self._threads or processors
        options = {
            "num_cpus": min(threads, processors),
            "num_gpus": self._gpus,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        actor = ray.remote(**options)(Worker).remote(self._make, threads)
        self._members.append(Member(actor, node, self._seats, actor.hello.remote()))
        self._seats += 1

    def _hand_out(self, work: Work[Item, Result]) -> None:
        joined = [member for member in self._members if member.joined]
        free = [member for member in joined if not member.behind] or joined
        for _ in range(_AT_A_TIME):
            for member in free:
                if work.load(member) < _AT_A_TIME:
                    index = work.next_for(member, len(free))
                    if index is not None:
                        sent = member.actor.do.remote(work.known[index]())
                        work.running[sent] = member, index, time.monotonic()

    def _collect(self, work: Work[Item, Result], again: Callable[[Exception], bool]) -> None:
        """Wait until something has come, or a moment, and take all that has."""
        import ray

        joining = {member.hello: member for member in self._members if not member.joined}
        behind = {reference: member for member in self._members for reference in member.behind}
        expected = [*joining, *behind, *work.running]
        if not expected:
            time.sleep(_LOOK / 10)
            return
        ready, _ = ray.wait(expected, num_returns=1, timeout=_LOOK)
        if ready:
            ready, _ = ray.wait(expected, num_returns=len(expected), timeout=0)
        for reference in ready:
            if reference in joining:
                self._welcome(joining[reference])
            elif reference in behind:
                behind[reference].behind.discard(reference)
            else:
                self._receive(work, reference, again)

    def _welcome(self, member: Member) -> None:
        """Let a worker begin, unless it cannot be had, or its version of gapsel or its machine is another."""
        import ray

        try:
            version, machine, process = ray.get(member.hello)
        except ray.exceptions.RayError as error:
            # What its tool raised when it was made is the last line of all that Ray says of it.
            made = "creation task" in str(error)
            self._bury(member, str(error).strip().splitlines()[-1] if made else _short(error), TRIES if made else 1)
            return
        if version != _native.__version__:
            self._bury(member, f"it has gapsel {version}, this machine {_native.__version__}", TRIES)
        elif machine != (self._alike or machine):
            self._bury(member, f"it sweeps by {machine}, the first one by {self._alike}", TRIES)
        else:
            member.process, self._alike = process, machine

    def _receive(self, work: Work[Item, Result], reference: Any, again: Callable[[Exception], bool]) -> None:  # noqa: ANN401 - an ObjectRef
        import ray

        member, index, began = work.running.pop(reference)
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if again(cause):
                work.lose(index, _short(cause))
            else:
                work.settle(index, _plain(cause))
        except ray.exceptions.RayError as error:
            self._bury(member, _short(error), 1)
            work.lose(index, self._reason)
        else:
            self._deaths.pop(member.node, None)
            work.seconds = [*work.seconds[-20:], time.monotonic() - began]
            work.settle(index, result)

    def _bury(self, member: Member, why: str, deaths: int) -> None:
        """Do without a worker, and without its machine when that has lost too many in a row."""
        if member not in self._members:
            return
        self._members.remove(member)
        _dismiss([member])
        self._reason, self._looked = why, float("-inf")
        self._deaths[member.node] = self._deaths.get(member.node, 0) + deaths
        if self._deaths[member.node] >= TRIES:
            warnings.warn(f"a machine of the cluster is left out: {why}", RuntimeWarning, stacklevel=6)


def _dismiss(members: list[Member]) -> None:
    """Kill workers, dead ones included, where Ray is still there to do it."""
    import ray

    while members:
        member = members.pop()
        if ray.is_initialized():
            ray.kill(member.actor)


def _plain(error: Exception) -> Exception:
    """Return an error of gapsel's as it is, and any other as one that says where it came from."""
    if isinstance(error, GapselError | MemoryError):
        return error
    return ResourceError(f"a worker of the cluster failed ({_short(error)}): look at its logs, and at its versions")


def _short(error: BaseException) -> str:
    """Return what an error says, cut to a line or two."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
