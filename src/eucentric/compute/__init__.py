"""Devices, memory, threads, FFT sizes, seeds."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "resolve_device": "device",
        "free_bytes": "device",
        "batches": "device",
        "set_threads": "threads",
        "thread_count": "threads",
        "threads_for": "threads",
        "good_size": "sizes",
        "seeded_generator": "seeds",
    },
)
