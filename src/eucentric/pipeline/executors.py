"""Where items are processed: in this process, in worker processes of this machine, or on a Dask cluster."""

import contextlib
import os
import queue
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import psutil

from eucentric.compute.threads import set_threads, thread_count
from eucentric.errors import BackendError, InputError
from eucentric.pipeline.records import Record
from eucentric.pipeline.work import ItemTask, process_item

Argument = TypeVar("Argument")
Result = TypeVar("Result")
ItemProgress = Callable[[str, str, float, str], None]
"""Stage, series, fraction from 0 to 1, text."""

RETRIES = 2
"""How often an item is tried again after its worker was lost."""
_TOPIC = "eucentric-progress"
_CONNECT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An item that came back."""

    task: ItemTask
    record: Record | None
    lost: str | None = None
    """What happened to the worker, where there is no record."""


class Executor(ABC):
    """Takes items and gives back their records."""

    slots: int
    """Items that run at the same time."""

    @abstractmethod
    def submit(self, task: ItemTask) -> None:
        """Take one item; no more than `slots` at a time."""

    @abstractmethod
    def finished(self) -> Finished:
        """The next item that came back; waits for it."""

    @abstractmethod
    def map(self, function: Callable[[Argument], Result], items: Iterable[Argument]) -> list[Result]:
        """The results of a function for each item, in order; for collective stages. The first error is raised."""

    @abstractmethod
    def close(self) -> None:
        """End in order."""

    @abstractmethod
    def abort(self) -> None:
        """End at once, dropping what runs."""


class InProcess(Executor):
    """One item at a time, here, with all cores."""

    slots = 1

    def __init__(self, on_progress: ItemProgress | None = None) -> None:
        self._on_progress = on_progress
        self._waiting: list[ItemTask] = []

    def submit(self, task: ItemTask) -> None:
        self._waiting.append(task)

    def finished(self) -> Finished:
        task = self._waiting.pop(0)

        def report(fraction: float, text: str) -> None:
            if self._on_progress is not None:
                self._on_progress(task.stage.name, task.series, fraction, text)

        return Finished(task=task, record=process_item(task, report))

    def map(self, function: Callable[[Argument], Result], items: Iterable[Argument]) -> list[Result]:
        return [function(item) for item in items]

    def close(self) -> None:
        self._waiting.clear()

    def abort(self) -> None:
        self._waiting.clear()


class DaskExecutor(Executor):
    """Worker processes through Dask; they start with the first item.

    Parameters
    ----------
    cluster : `local`, `slurm`, or the address of a running cluster such as `tcp://host:8786`
    workers : worker processes to start; None leaves a running cluster as it is
    on_progress : told how far items are
    """

    def __init__(
        self, cluster: str = "local", workers: int | None = None, on_progress: ItemProgress | None = None
    ) -> None:
        self._kind = cluster
        self.slots = workers or 1
        self._on_progress = on_progress
        self._client: Any = None
        self._cluster: Any = None
        self._threads: dict[str, int] = {}
        self._back: queue.SimpleQueue[tuple[ItemTask, Any]] = queue.SimpleQueue()
        self._futures: set[Any] = set()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._environment = dict(os.environ)
        if cluster.startswith(("tcp://", "tls://", "inproc://")):
            self._connect()

    def submit(self, task: ItemTask) -> None:
        if self._client is None:
            self._start()
        future = self._client.submit(
            _run_on_worker, task, self._threads, pure=False, key=f"{task.stage.name}-{task.series}-{id(task)}"
        )
        self._futures.add(future)
        future.add_done_callback(lambda done: self._back.put((task, done)))

    def finished(self) -> Finished:
        while True:
            # Short waits, so that Ctrl-C is noticed.
            with contextlib.suppress(queue.Empty):
                task, future = self._back.get(timeout=0.25)
                break
        self._futures.discard(future)
        error = None if future.status == "finished" else future.exception()
        record = future.result() if future.status == "finished" else None
        future.release()
        if record is not None:
            return Finished(task=task, record=record)
        import distributed

        if isinstance(error, distributed.KilledWorker):
            lost = (
                f"The worker process that ran {task.stage.name} of {task.series} was killed {RETRIES + 1} times; "
                "most often the machine had no memory left. Use fewer --workers, then run the same command again."
            )
        else:
            what = f"{task.stage.name} of {task.series}"
            lost = f"{what} was lost by the cluster: {error!s:.200}. Run the same command again."
        return Finished(task=task, record=None, lost=lost)

    def map(self, function: Callable[[Argument], Result], items: Iterable[Argument]) -> list[Result]:
        if self._client is None:
            self._start()
        futures = self._client.map(_call_on_worker, list(items), function=function, threads=self._threads, pure=False)
        return list(self._client.gather(futures))

    def _start(self) -> None:
        if self._kind == "local":
            self._cluster = self._local_cluster()
        elif self._kind == "slurm":
            self._cluster = _slurm_cluster(self.slots)
        self._connect()

    def _local_cluster(self) -> Any:
        import dask
        from distributed import LocalCluster

        threads = max(1, thread_count() // self.slots)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        # Dask would set these to 1 in its workers, and leave them so in this process.
        environment = dict.fromkeys(names, str(threads))
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": environment,
                "distributed.scheduler.allowed-failures": RETRIES,
                "distributed.scheduler.worker-saturation": 1.0,
                # Items hold their own arrays: there is nothing that Dask could spill. A runaway one is ended.
                "distributed.worker.memory.target": False,
                "distributed.worker.memory.spill": False,
                "distributed.worker.memory.pause": False,
                "distributed.worker.memory.terminate": 0.9,
            }
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="eucentric-dask-", ignore_cleanup_errors=True)
        return LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=self.slots,
            threads_per_worker=1,
            processes=True,
            memory_limit=psutil.virtual_memory().total,
            dashboard_address="127.0.0.1:0",  # any free port: two runs may share a machine
            silence_logs=50,
            local_directory=self._scratch.name,
        )

    def _connect(self) -> None:
        from distributed import Client

        try:
            address = self._cluster or self._kind
            self._client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
            self._client.wait_for_workers(1, timeout=600 if self._kind == "slurm" else _CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            self.abort()
            raise BackendError(
                f"No Dask worker answered at `{self._kind}` ({type(error).__name__}). "
                "Check that its scheduler and workers run and can be reached from here."
            ) from error
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        crowded = [address for address, worker in workers.items() if worker["nthreads"] != 1]
        if crowded:
            self.close()
            raise InputError(
                f"The worker {crowded[0]} runs {workers[crowded[0]]['nthreads']} tasks at a time; expected one. "
                "Start workers with --nthreads 1 and as many --nworkers as are to run side by side."
            )
        hosts = [worker["host"] for worker in workers.values()]
        self._threads = {host: hosts.count(host) for host in hosts}
        if self._kind != "slurm":  # whose workers come one after another
            self.slots = len(workers)
        self._client.register_plugin(_worker_setup())
        if self._on_progress is not None:
            self._client.subscribe_topic(_TOPIC, self._hear)

    def _hear(self, event: tuple[float, Any]) -> None:
        if self._on_progress is not None:
            self._on_progress(*event[1])

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                with contextlib.suppress(TimeoutError, OSError):
                    part.close()
        self._client = self._cluster = None
        self._restore()

    def abort(self) -> None:
        if self._client is not None:
            with contextlib.suppress(TimeoutError, OSError):
                self._client.cancel(list(self._futures), force=True)
        for nanny in list(getattr(self._cluster, "workers", {}).values()):
            # A worker in the middle of an item does not listen; only a signal ends it.
            nanny.auto_restart = False
            if self._kind == "local" and nanny.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
        self.close()

    def _restore(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            if name in self._environment:
                os.environ[name] = self._environment[name]
            else:
                os.environ.pop(name, None)


def _slurm_cluster(workers: int) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise BackendError(
            "--cluster slurm needs the package dask-jobqueue, which is not installed. "
            "Run `pip install 'eucentric[slurm]'`."
        ) from error
    try:
        cluster = SLURMCluster(nanny=True, extra=["--nthreads", "1"])
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Dask cannot ask SLURM for workers: {error!s:.200}. "
            "Write cores, memory and queue to `~/.config/dask/jobqueue.yaml` under `jobqueue: slurm:`."
        ) from error
    cluster.scale(workers)
    return cluster


def _worker_setup() -> Any:
    from distributed import WorkerPlugin

    class IgnoreInterrupt(WorkerPlugin):
        """Ctrl-C reaches every process of the terminal; the parent alone decides."""

        name = "eucentric-ignore-interrupt"

        def setup(self, worker: Any) -> None:
            del worker
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return IgnoreInterrupt()


def _limit_threads(neighbours: dict[str, int], worker: Any) -> None:
    # In the thread that computes: torch and numba keep the number for each thread.
    host = worker.address.split("://")[-1].rsplit(":", 1)[0]
    set_threads(max(1, thread_count() // neighbours.get(host, 1)))


def _own_device(device: str, worker_name: str) -> str:
    """A GPU for each worker, where there are several and none was named."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{int(worker_name) % count}" if count > 1 and worker_name.isdigit() else device


def _run_on_worker(task: ItemTask, neighbours: dict[str, int]) -> Record:
    from distributed import get_worker

    worker = get_worker()
    _limit_threads(neighbours, worker)
    task = replace(task, device=_own_device(task.device, str(worker.name)))

    def report(fraction: float, text: str) -> None:
        worker.log_event(_TOPIC, (task.stage.name, task.series, fraction, text))

    return process_item(task, report)


def _call_on_worker(item: Argument, function: Callable[[Argument], Result], threads: dict[str, int]) -> Result:
    from distributed import get_worker

    _limit_threads(threads, get_worker())
    return function(item)


def choose_workers(item_count: int, peak_bytes: Sequence[int], device: str) -> int:
    """How many items to run side by side on this machine: bounded by items, cores (or GPUs) and memory."""
    import torch

    on_gpu = device.startswith("cuda")
    slots = thread_count() if not on_gpu else 1 if ":" in device else torch.cuda.device_count()
    fitting = int(0.8 * psutil.virtual_memory().available // max([1, *peak_bytes]))
    return max(1, min(item_count, slots, fitting))


@contextlib.contextmanager
def shared_work(cluster: str, workers: int) -> Iterator[Executor]:
    """An executor for :meth:`Executor.map` alone; ended in order, or at once where an error or Ctrl-C came."""
    executor = make_executor(cluster, workers, workers)
    try:
        yield executor
    except BaseException:
        executor.abort()
        raise
    executor.close()


def make_executor(cluster: str, workers: int | None, choice: int, on_progress: ItemProgress | None = None) -> Executor:
    """The executor for a run.

    Parameters
    ----------
    cluster : `local`, `slurm` or an address
    workers : as asked for; None takes `choice`
    choice : what fits this machine
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers is {workers}; expected at least 1.")
    if cluster == "local":
        count = workers or choice
        return InProcess(on_progress) if count == 1 else DaskExecutor("local", count, on_progress)
    if cluster == "slurm":
        return DaskExecutor("slurm", workers or choice, on_progress)
    if "://" in cluster:
        return DaskExecutor(cluster, None, on_progress)
    raise InputError(f"--cluster is `{cluster}`; expected local, slurm or an address such as tcp://host:8786.")
