"""The U-Net, its training, its tiles and its files."""

from importlib import import_module

import pytest
import torch

from eucentric.errors import BackendError, FormatError, InputError, ProcessingError, ShapeError
from eucentric.networks import (
    Model,
    TrainingParams,
    TrainingState,
    UNet,
    UNetParams,
    apply_network,
    model_from_bytes,
    model_to_bytes,
    train_network,
)
from eucentric.networks.prefetch import prefetched
from eucentric.networks.train_network import initialise

CPU = torch.device("cpu")


def network(levels=2, **changes):
    made = UNet(UNetParams(width=3, levels=levels, out_channels=2, **changes))
    initialise(made, 5)
    return made.eval()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_tiles_give_what_the_whole_gives(levels):
    volume = torch.randn(1, 29, 34, 41, generator=torch.Generator().manual_seed(levels))
    whole = apply_network(network(levels), volume, half=False)
    tiled = apply_network(network(levels), volume, tile=12, half=False)
    assert whole.shape == (2, 29, 34, 41)
    torch.testing.assert_close(tiled, whole, atol=2e-5 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_nothing_beyond_the_reach_matters(levels):
    net = network(levels)
    reach = net.params.reach
    size = net.params.multiple * (2 * reach // net.params.multiple + 4)
    line = torch.zeros(1, 1, size, 4 * net.params.multiple, 4 * net.params.multiple, requires_grad=True)
    widest = 0
    for place in range(size // 2, size // 2 + net.params.multiple):
        (slope,) = torch.autograd.grad(net(line)[0, 0, place].sum(), line)
        touched = slope.abs().sum((0, 1, 3, 4)).nonzero().flatten()
        widest = max(widest, int((touched - place).abs().max()))
    assert reach - 2 * net.params.multiple < widest <= reach


def plain_network(levels=2, width=3, seed=5):
    made = UNet(UNetParams(width=width, levels=levels, normalise=False))
    initialise(made, seed)
    return made


def test_without_normalisation_nothing_depends_on_the_batch_or_on_training():
    net = plain_network()
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in net.modules())
    volumes = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    volumes[1] *= 50.0
    with torch.no_grad():
        learning = net.train()(volumes)
        together, alone = net.eval()(volumes), net(volumes[:1])
        strong = net(100.0 * volumes[:1])
    torch.testing.assert_close(learning, together, rtol=0, atol=0)
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-6)
    assert float(strong.std() / alone.std()) > 50.0  # a stronger volume comes out stronger


@pytest.mark.parametrize("levels", [2, 3])
def test_tiles_give_what_the_whole_gives_without_normalisation(levels):
    volume = torch.randn(1, 21, 34, 27, generator=torch.Generator().manual_seed(levels))
    whole = apply_network(plain_network(levels), volume, half=False)
    tiled = apply_network(plain_network(levels), volume, tile=12, half=False)
    torch.testing.assert_close(tiled, whole, atol=2e-5 * float(whole.abs().max()), rtol=0)


def test_a_halo_of_32_voxels_is_nearly_the_whole_reach():
    net = plain_network(levels=4, width=2)
    assert net.params.reach > 32
    volume = torch.randn(1, 16, 16, 160, generator=torch.Generator().manual_seed(2))
    whole, wide, none = (
        apply_network(net, volume, tile=tile, halo=halo, half=False) for tile, halo in ((160, None), (40, 32), (40, 0))
    )
    spread = float(whole.std())
    assert float((wide - whole).abs().max()) < 0.02 * spread
    assert float((none - whole).abs().max()) > 0.1 * spread


def test_half_precision_is_near_the_whole():
    volume = torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    fine, coarse = (apply_network(network(), volume, half=half) for half in (False, True))
    assert float((fine - coarse).norm() / fine.norm()) < 0.03  # bfloat16 keeps 8 bits: 0.4% at each of five layers


def test_finish_is_done_to_each_tile():
    volume = torch.randn(1, 16, 16, 20, generator=torch.Generator().manual_seed(2))
    share = apply_network(network(), volume, tile=8, finish=lambda logits: logits.softmax(0)[1:])
    assert share.shape == (1, 16, 16, 20)
    assert 0.0 < float(share.min()) <= float(share.max()) < 1.0


def test_wrong_shapes_are_told():
    with pytest.raises(ShapeError, match="multiples of 2"):
        network()(torch.zeros(1, 1, 5, 4, 4))
    with pytest.raises(ShapeError, match=r"expected \(1, z, y, x\)"):
        apply_network(network(), torch.zeros(2, 8, 8, 8))


def test_too_little_memory_is_told(monkeypatch):
    monkeypatch.setattr(import_module("eucentric.networks.apply_network"), "free_bytes", lambda device: 10_000)
    with pytest.raises(BackendError, match="not enough memory"):
        apply_network(network(), torch.zeros(1, 8, 8, 8))


def blurring_batch(step):
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(2, 1, 8, 8, 8, generator=generator)
    return {"images": images, "wanted": torch.nn.functional.avg_pool3d(images, 3, 1, 1)}


def squared(net, batch):
    return (net(batch["images"]).float()[:, :1] - batch["wanted"]).square().mean()


def fresh():
    made = UNet(UNetParams(width=4, levels=1, out_channels=1))
    initialise(made, 3)
    return made


def test_training_learns_a_blur_and_a_stopped_one_goes_on_as_if_it_had_not_stopped():
    params = TrainingParams(steps=60, learning_rate=1e-2, checkpoint_steps=25)
    whole = fresh()
    states = []
    final = train_network(whole, blurring_batch, squared, params, CPU, on_checkpoint=states.append)
    assert sum(final.losses[-5:]) < 0.3 * sum(final.losses[:5])
    assert [state.step for state in states] == [25, 50, 60]
    again = fresh()
    resumed = train_network(
        again, blurring_batch, squared, params, CPU, state=TrainingState.from_dict(states[0].to_dict())
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert resumed.losses == final.losses


def test_ctrl_c_keeps_the_last_step():
    kept = []

    def stop(step, steps, loss):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(
            fresh(), blurring_batch, squared, TrainingParams(steps=20), CPU, on_checkpoint=kept.append, on_step=stop
        )
    assert [state.step for state in kept] == [7]


class Scripted:
    """A judge that says what was written down, and remembers whom it judged."""

    def __init__(self, values):
        self.values, self.seen = list(values), []

    def __call__(self, net):
        assert not net.training
        self.seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return self.values[len(self.seen) - 1]


def test_a_judged_training_ends_when_nothing_gets_better_and_keeps_the_best():
    params = TrainingParams(steps=60, learning_rate=1e-2, checkpoint_steps=5, patience=3)
    net, judge, states = fresh(), Scripted([5.0, 4.0, 3.0, 3.5, 3.0, 4.0, 1.0]), []
    final = train_network(net, blurring_batch, squared, params, CPU, judge=judge, on_checkpoint=states.append)
    assert final.checks == [(0, 5.0), (5, 4.0), (10, 3.0), (15, 3.5), (20, 3.0), (25, 4.0)]
    assert final.step == len(final.losses) == 25
    kept = net.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in states[1].averaged.items())
    assert all(torch.equal(kept[name], value) for name, value in judge.seen[2].items())
    assert not torch.equal(kept["head.weight"], final.weights["head.weight"])
    # one that had ended does not begin again
    again = fresh()
    ended = train_network(again, blurring_batch, squared, params, CPU, state=final, judge=Scripted([]))
    assert ended.step == 25
    assert all(torch.equal(again.state_dict()[name], value) for name, value in kept.items())


def test_a_judged_training_that_only_gets_worse_gives_back_its_start():
    net = fresh()
    start = {name: value.clone() for name, value in net.state_dict().items()}
    params = TrainingParams(steps=6, checkpoint_steps=2, patience=0)
    final = train_network(net, blurring_batch, squared, params, CPU, judge=Scripted([1.0, 2.0, 3.0, 4.0]))
    assert [step for step, _ in final.checks] == [0, 2, 4, 6]
    assert all(torch.equal(net.state_dict()[name], value) for name, value in start.items())


def told_by_blur(net):
    return float(squared(net, blurring_batch(1000)))


def stopped_at(step):
    def on_step(done, steps, loss):
        if done == step:
            raise KeyboardInterrupt

    return {"on_step": on_step, "judge": told_by_blur}


def stopped_in_judgement(number):
    calls = []

    def judge(net):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return told_by_blur(net)

    return {"judge": judge}


@pytest.mark.parametrize(
    "stop",
    [stopped_at(7), stopped_at(10), stopped_at(23), *(stopped_in_judgement(n) for n in (1, 2, 3, 6))],
    ids=["step 7", "step 10", "last step", "first judgement", "second", "third", "last"],
)
def test_a_judged_training_goes_on_as_if_it_had_not_stopped_wherever_it_did(stop):
    params = TrainingParams(steps=23, learning_rate=1e-2, checkpoint_steps=5, patience=4)
    whole, kept = fresh(), []
    final = train_network(whole, blurring_batch, squared, params, CPU, judge=told_by_blur)
    assert [step for step, _ in final.checks] == [0, 5, 10, 15, 20, 23]
    with pytest.raises(KeyboardInterrupt):
        train_network(fresh(), blurring_batch, squared, params, CPU, on_checkpoint=kept.append, **stop)
    again = fresh()
    state = TrainingState.from_dict(kept[-1].to_dict())
    resumed = train_network(again, blurring_batch, squared, params, CPU, state=state, judge=told_by_blur)
    assert resumed.checks == final.checks
    assert resumed.losses == final.losses
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_what_is_stopped_while_weights_change_keeps_the_state_before(monkeypatch):
    params = TrainingParams(steps=8, learning_rate=1e-2, checkpoint_steps=3)
    whole = fresh()
    final = train_network(whole, blurring_batch, squared, params, CPU)
    kept, plain, calls = [], torch.optim.AdamW.step, []

    def step(self, *arguments, **options):
        calls.append(1)
        out = plain(self, *arguments, **options)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return out

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(KeyboardInterrupt):
            train_network(fresh(), blurring_batch, squared, params, CPU, on_checkpoint=kept.append)
    assert [state.step for state in kept] == [3]
    again = fresh()
    resumed = train_network(again, blurring_batch, squared, params, CPU, state=kept[-1])
    assert resumed.losses == final.losses
    assert all(torch.equal(again.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_prefetched_batches_are_those_asked_for():
    made = []

    def batch_of(step):
        made.append(step)
        if step == 7:
            raise InputError("no batch 7")
        return {"step": torch.tensor(step)}

    batch = prefetched(batch_of)
    asked = [0, 1, 2, 5, 6, 2, 3]
    assert [int(batch(step)["step"]) for step in asked] == asked
    assert made.count(1) == 1  # what was begun ahead is used
    with pytest.raises(InputError, match="batch 7"):
        batch(7)


def test_a_loss_that_is_no_number_and_a_state_of_another_network_are_told():
    with pytest.raises(ProcessingError, match="lost its way at step 0"):
        train_network(fresh(), blurring_batch, lambda n, b: squared(n, b) / 0.0, TrainingParams(steps=2), CPU)
    state = train_network(fresh(), blurring_batch, squared, TrainingParams(steps=1), CPU)
    with pytest.raises(InputError, match="another network"):
        train_network(network(), blurring_batch, squared, TrainingParams(steps=2), CPU, state=state)
    with pytest.raises(InputError, match="no state of a training"):
        TrainingState.from_dict({"step": 1})


def model():
    net = network()
    return Model(
        purpose="testing",
        network=net.params,
        weights=dict(net.state_dict()),
        settings={"voxel_size_angstrom": 12.0},
        provenance={"seed": 5},
    )


def test_a_model_file_gives_the_same_network():
    read = model_from_bytes(model_to_bytes(model()), "m", purpose="testing")
    volume = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    before, after = network()(volume), read.build()(volume)
    assert (
        float((before - after).detach().norm() / before.detach().norm()) < 0.01
    )  # float16 keeps 11 bits of each weight
    assert read.settings == {"voxel_size_angstrom": 12.0}
    assert read.provenance == {"seed": 5}


def test_files_that_are_no_model_are_told(tmp_path):
    with pytest.raises(FormatError, match=r"`m.pt` is no model of Eucentric"):
        model_from_bytes(b"nothing", "m.pt", purpose="testing")
    with pytest.raises(FormatError, match="a model for testing; expected one for picking"):
        model_from_bytes(model_to_bytes(model()), "m.pt", purpose="picking")
    path = tmp_path / "x.pt"
    torch.save({"mark": "other"}, path)
    with pytest.raises(FormatError, match="is no model"):
        model_from_bytes(path.read_bytes(), "x.pt", purpose="testing")
    whole = model()
    broken = Model(purpose="testing", network=UNetParams(width=5), weights=whole.weights, settings={}, provenance={})
    with pytest.raises(FormatError, match="weights do not fit"):
        model_from_bytes(model_to_bytes(broken), "m.pt", purpose="testing")


def test_the_model_that_comes_with_the_program_is_small_and_knows_objects():
    from eucentric.pipeline.learned_files import SHIPPED, classes_of, read_model, shipped_bytes

    assert len(shipped_bytes()) < 3e6
    shipped = read_model(SHIPPED)
    classes, calibrations = classes_of(shipped)
    assert [kind.name for kind in classes] == ["object"]
    assert calibrations[0].true_count > 100
    assert shipped.settings["embedding"] == 32
    assert shipped.provenance["data"].startswith("simulated")
