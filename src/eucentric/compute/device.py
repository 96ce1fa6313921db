"""The device to compute on, its free memory, and batches that fit."""

from collections.abc import Iterator

import psutil
import torch

from eucentric.errors import BackendError, InputError

_SHARE = 0.8  # nothing may need more than this part of the free memory


def resolve_device(name: str = "auto") -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:n`. `auto` takes a GPU where there is one.

    Raises
    ------
    InputError : a name of another form
    BackendError : the named GPU is not there
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise InputError(f"The device `{name}` is unknown; expected auto, cpu, cuda or cuda:0, cuda:1 and so on.")
    if not torch.cuda.is_available():
        raise BackendError(f"The device `{name}` was asked for, but PyTorch finds no CUDA GPU here. Use --device cpu.")
    if number and int(number) >= torch.cuda.device_count():
        raise BackendError(
            f"The device `{name}` was asked for, but there are only {torch.cuda.device_count()} GPUs here."
        )
    return torch.device(name)


def free_bytes(device: torch.device | str) -> int:
    """Bytes that a step may use on `device`: 80% of what is free now."""
    device = torch.device(device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return int(_SHARE * free)


def batches(total: int, bytes_each: int, device: torch.device | str) -> Iterator[slice]:
    """Slices over `total` items so that a batch needs no more than the free memory of `device`.

    Raises
    ------
    BackendError : not even one item fits
    """
    free = free_bytes(device)
    if bytes_each > free and total:
        raise BackendError(
            f"One item needs {bytes_each / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB may be used on {device}. "
            "Use a larger pixel size, or a device with more memory."
        )
    size = max(1, min(total, free // max(1, bytes_each)))
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def products_type(device: torch.device | str) -> torch.dtype:
    """Of factors of matrix products of which three digits are enough: bfloat16 where the device has instructions for it."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16
    able = torch.cpu.get_capabilities() if torch.device(device).type == "cpu" else {}
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
