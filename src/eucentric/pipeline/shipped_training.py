"""What the trainings of the models that come with the program share: going on after a stop, the file, a line now and then."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from eucentric import __version__
from eucentric.io.atomic import write_bytes_atomic
from eucentric.networks.model_file import Model, load_plain, model_to_bytes
from eucentric.networks.params import TrainingParams
from eucentric.networks.prefetch import prefetched
from eucentric.networks.train_network import Batch, TrainingState, train_network
from eucentric.networks.unet import UNet

_TOLD = 25  # steps


def train_shipped(
    path: Path,
    network: UNet,
    batch_of: Callable[[int], Batch],
    loss_of: Callable[[nn.Module, Batch], Tensor],
    params: TrainingParams,
    *,
    purpose: str,
    settings: dict[str, object],
    data: str,
    seed: int,
    last_step: int | None = None,
) -> None:
    """Train, and write the model at every checkpoint.

    Parameters
    ----------
    path : of the model; beside it lies the state of a training that was stopped, which goes on
    data : words for the model's provenance
    last_step : where it ends before the rate of learning is 0
    """
    stopped = path.with_suffix(".state")
    state = None
    if stopped.is_file():
        state = TrainingState.from_dict(load_plain(stopped.read_bytes(), str(stopped), "state of a training"))

    def checkpoint(now: TrainingState) -> None:
        torch.save(now.to_dict(), stopped)
        provenance = {
            "eucentric": __version__,
            "data": data,
            "seed": seed,
            "step": now.step,
            "parameters": params.model_dump(),
        }
        model = Model(
            purpose=purpose, network=network.params, weights=now.averaged, settings=settings, provenance=provenance
        )
        write_bytes_atomic(path, model_to_bytes(model))
        if last_step is not None and now.step >= last_step:
            raise SystemExit

    train_network(
        network,
        prefetched(batch_of),
        loss_of,
        params,
        torch.device("cpu"),
        state=state,
        on_checkpoint=checkpoint,
        on_step=told_steps(),
    )


def told_steps() -> Callable[[int, int, float], None]:
    """Prints the step, the mean loss of the last ones, and the time."""
    started, recent = time.monotonic(), []

    def tell(step: int, steps: int, loss: float) -> None:
        recent.append(loss)
        if step % _TOLD == 0:
            mean = sum(recent[-_TOLD:]) / len(recent[-_TOLD:])
            print(f"{step} of {steps}, loss {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201

    return tell
