"""Where independent work runs: on processes of this machine, or on the workers of a Dask cluster.

`share` takes a large value to the workers once; `run` applies a function to it and to each of many items.
Work that is small is done faster right here.
"""

import multiprocessing
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask, signal
from typing import Any, Protocol, TypeVar

from regrow.errors import BackendError, CapacityError, InputError

from regrow_host import runner
from regrow_host.files import temporary_folder

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECTING = 10
"""Seconds a Dask scheduler has to answer."""
BLAS_THREADS = "OMP_NUM_THREADS"
REMEMBERED = 2
"""Shared values that a process keeps at hand."""


class Executor(Protocol):
    workers: int

    def share(self, value: object) -> Any:
        """A handle of the value for `run`. Values are not changed by the work they are given to."""

    def run(
        self, work: Callable[[Any, Item], Result], shared: Any, items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with work(value, item), as results come in; what is not begun when the caller
        stops is never done. `work` is a function of a module. Raises what it raises, or CapacityError if a
        worker dies.
        """


@contextmanager
def open_executor(where: str) -> Iterator[Executor]:
    """`where` is `here`, `processes` or `dask://HOST:PORT`. Raises InputError or BackendError."""
    if where == "here":
        yield Here()
    elif where == "processes":
        with temporary_folder() as folder:
            yield from _processes(folder)
    elif re.fullmatch(r"dask://[^/]+:\d+", where):
        yield from _dask(where)
    else:
        raise InputError(f"the executor {where!r} is neither processes nor dask://HOST:PORT")


class Here:
    workers = 1

    def share(self, value: object) -> Any:
        return value

    def run(
        self, work: Callable[[Any, Item], Result], shared: Any, items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        for item in items:
            yield item, work(shared, item)


class Processes:
    def __init__(self, pool: ProcessPoolExecutor, workers: int, folder: Path) -> None:
        self.workers = workers
        self._pool = pool
        self._folder = folder
        self._count = 0

    def share(self, value: object) -> Path:
        self._count += 1
        path = self._folder / str(self._count)
        try:
            path.write_bytes(pickle.dumps(value))
        except OSError as error:
            raise CapacityError(f"cannot write {path}: {error.strerror}") from None
        return path

    def run(
        self, work: Callable[[Any, Item], Result], shared: Path, items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        # Workers begin here, and Python itself answers Ctrl-C with a traceback while it begins.
        before = pthread_sigmask(SIG_BLOCK, {SIGINT})
        try:
            futures = {self._pool.submit(_work, work, shared, item): item for item in items}
        finally:
            pthread_sigmask(SIG_SETMASK, before)
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise CapacityError("a worker process died, probably for lack of memory") from None
        finally:
            _cancel(futures)


def _processes(folder: Path) -> Iterator["Processes"]:
    workers = os.cpu_count() or 1
    others = set(multiprocessing.active_children())
    before = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = "1"  # numpy's libraries read it when a worker begins
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin)
    try:
        yield Processes(pool, workers, folder)
    finally:
        if before is None:
            del os.environ[BLAS_THREADS]
        else:
            os.environ[BLAS_THREADS] = before
        # Workers do not hear Ctrl-C themselves; what they are still at is worth nothing any more.
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        # The pool's thread trips over cancelled futures when its workers are gone: a traceback.
        hook, threading.excepthook = threading.excepthook, _ignore
        try:
            # Python would close the pool's pipes in one thread while it writes to them in another.
            pool.shutdown(wait=True, cancel_futures=True)
        finally:
            threading.excepthook = hook


def _begin() -> None:
    signal(SIGINT, _ignore)
    runner.THREADS = 1
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A parent that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _ignore(*_: object) -> None:
    """Workers leave Ctrl-C to their parent. (SIG_IGN would be inherited by what they start.)"""


def _work(work: Callable[[Any, Item], Result], shared: Path, item: Item) -> Result:
    return work(_load(shared), item)


@lru_cache(REMEMBERED)
def _load(shared: Path) -> Any:
    return pickle.loads(shared.read_bytes())


class Dask:
    def __init__(self, client: Any, as_completed: Any) -> None:
        self.workers = max(1, sum(client.nthreads().values()))
        self._client = client
        self._as_completed = as_completed

    def share(self, value: object) -> Any:
        return self._client.scatter(value)

    def run(
        self, work: Callable[[Any, Item], Result], shared: Any, items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        futures = {self._client.submit(work, shared, item, pure=False): item for item in items}
        try:
            for future in self._as_completed(list(futures)):
                yield futures[future], future.result()
        finally:
            _cancel(futures)


def _dask(where: str) -> Iterator[Dask]:
    try:
        from distributed import Client, as_completed  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise BackendError(
            'a Dask executor needs the package distributed: pip install "regrow[study]"'
        ) from None
    try:
        client = Client(where.replace("dask", "tcp", 1), timeout=CONNECTING)  # type: ignore[no-untyped-call]
    except OSError:
        raise BackendError(f"no Dask scheduler answers at {where}") from None
    with client:
        yield Dask(client, as_completed)


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()
