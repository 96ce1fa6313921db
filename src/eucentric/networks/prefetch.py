"""The next batch is made while the network learns from this one."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from eucentric.networks.train_network import Batch


def prefetched(batch_of: Callable[[int], Batch]) -> Callable[[int], Batch]:
    """The same batches; that of the step after the one asked for is begun in a thread of its own."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    begun: dict[int, Future[Batch]] = {}

    def batch(step: int) -> Batch:
        this = begun.pop(step, None) or pool.submit(batch_of, step)
        for late in begun.values():
            late.cancel()
        begun.clear()
        begun[step + 1] = pool.submit(batch_of, step + 1)
        return this.result()

    return batch
