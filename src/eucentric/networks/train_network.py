"""The training loop of all networks: seeded, resumable, without files."""

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from eucentric.compute import seeded_generator
from eucentric.errors import InputError, ProcessingError
from eucentric.networks.params import TrainingParams

Batch = Mapping[str, Tensor]
_WARM_UP = 0.1  # of the steps
_LARGEST_GRADIENT = 1.0


@dataclass(kw_only=True, eq=False)
class TrainingState:
    """All that a training needs to go on. The same steps follow, whether it was stopped in between or not."""

    step: int
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Any]
    losses: list[float]
    checks: list[tuple[int, float]] = field(default_factory=list)
    """Step and loss on what was held out, from step 0 on."""
    best: dict[str, Tensor] | None = None
    """Averaged weights of the least of them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, for `torch.save`."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` made.

        Raises
        ------
        InputError : something else
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError("This is no state of a training. Start the training anew.") from error


def half_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where it is faster and safe: convolutions and products of matrices."""
    return torch.autocast(device.type, torch.bfloat16)


def initialise(network: nn.Module, seed: int) -> None:
    """He's normal weights of all convolutions, from a generator of their own."""
    generator = seeded_generator(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            fan = module.weight[0].numel() if isinstance(module, nn.Conv3d) else module.weight.shape[0]
            with torch.no_grad():
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * math.sqrt(2.0 / fan))
                if module.bias is not None:
                    module.bias.zero_()


def train_network(
    network: nn.Module,
    batch_of: Callable[[int], Batch],
    loss_of: Callable[[nn.Module, Batch], Tensor],
    params: TrainingParams,
    device: torch.device,
    *,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    judge: Callable[[nn.Module], float] | None = None,
) -> TrainingState:
    """Train a network in place; it ends with the averaged weights, ready for use.

    Where it is judged, it ends with the best of the weights that were judged, those it began with among them.

    Parameters
    ----------
    batch_of : step -> batch; of the step alone, so that a training that goes on sees what it would have seen
    loss_of : network and batch -> one number
    state : of a training that was stopped
    on_checkpoint : told the state every ``params.checkpoint_steps``, at the end, and before a KeyboardInterrupt passes, unless that
        came in the midst of a change of the weights
    on_step : told the step, all steps and the loss
    judge : network with averaged weights -> loss on what was held out, asked at the start and at every checkpoint; `params.patience`
        checkpoints without betterment end the training

    Raises
    ------
    ProcessingError : the loss is no number any more
    InputError : a state of another network
    """
    network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
    losses: list[float] = []
    checks: list[tuple[int, float]] = []
    best: dict[str, Tensor] | None = None
    first = 0
    if state is not None:
        try:
            network.load_state_dict(state.weights)
            optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError("The training that was stopped is of another network. Start anew.") from error
        averaged = {name: value.to(device) for name, value in state.averaged.items()}
        losses, first = list(state.losses), state.step
        checks, best = [(int(n), float(v)) for n, v in state.checks], state.best
    done, whole = first, True

    def now() -> TrainingState:
        return TrainingState(
            step=done,
            weights={name: value.detach().clone() for name, value in network.state_dict().items()},
            averaged={name: value.clone() for name, value in averaged.items()},
            optimizer=copy.deepcopy(optimizer.state_dict()),
            losses=list(losses),
            checks=list(checks),
            best=best,
        )

    def check() -> bool:
        """Judge the averaged weights; whether the training should end."""
        nonlocal best
        if judge is None:
            return False
        copied = {name: value.detach().clone() for name, value in network.state_dict().items()}
        try:
            network.load_state_dict(averaged)
            network.eval()
            with torch.no_grad():
                found = judge(network)
        finally:  # also where it is stopped meanwhile
            network.load_state_dict(copied)
            network.train()
        if best is None or found < min(value for _, value in checks):
            best = {name: value.detach().clone() for name, value in averaged.items()}
        checks.append((done, found))
        return over()

    def over() -> bool:
        least = min(range(len(checks)), key=lambda n: checks[n][1]) if checks else 0
        return 0 < params.patience <= len(checks) - 1 - least

    def due() -> bool:
        """Whether the weights of this step must be judged, and were not before the training was stopped."""
        judged = bool(checks) and checks[-1][0] == done
        return not judged and (not checks or done % params.checkpoint_steps == 0 or done == params.steps)

    network.train()
    try:
        ended = check() if due() else over()
        for step in range(first, params.steps):
            if ended:
                break
            for group in optimizer.param_groups:
                group["lr"] = params.learning_rate * _schedule(step, params.steps)
            batch = {name: value.to(device) for name, value in batch_of(step).items()}
            with half_precision(device):
                loss = loss_of(network, batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ProcessingError(f"The training lost its way at step {step}: the loss is {value}. Lower the rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            whole = False
            optimizer.step()
            losses.append(value)
            _average(averaged, network, min(params.averaging, (1.0 + step) / (10.0 + step)))
            done, whole = step + 1, True
            if on_step is not None:
                on_step(done, params.steps, value)
            if done % params.checkpoint_steps == 0 and done < params.steps:
                ended = check()
                if on_checkpoint is not None:
                    on_checkpoint(now())
        if not ended and due():
            check()
    except KeyboardInterrupt:
        if on_checkpoint is not None and whole:
            on_checkpoint(now())
        raise
    final = now()
    if on_checkpoint is not None:
        on_checkpoint(final)
    network.load_state_dict(averaged if best is None else best)
    network.eval()
    return final


def _schedule(step: int, steps: int) -> float:
    """Part of the highest rate: a line up, half a cosine down."""
    warm = max(1.0, _WARM_UP * steps)
    if step < warm:
        return (step + 1.0) / (warm + 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))


def _average(averaged: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            averaged[name].lerp_(value.detach(), 1.0 - keep)
        else:
            averaged[name].copy_(value)
