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
