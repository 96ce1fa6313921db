"""Learned segmentation: scores stand where the objects are, and trainings find what was labelled in slices."""

import numpy as np
import pytest
import torch

from eucentric.errors import FormatError, InputError
from eucentric.networks.model_file import Model
from eucentric.networks.params import UNetParams
from eucentric.networks.train_network import initialise
from eucentric.networks.unet import UNet
from eucentric.segmentation.learned.find_classes import class_scores
from eucentric.segmentation.learned.segmenter import PURPOSE, Segmenter

VOXEL = 10.0


def local_network(channels: int) -> UNet:
    """Logits that rise with what is dark in the image, each voxel alone."""
    network = UNet(UNetParams(out_channels=channels, width=2, levels=1, normalise=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first, second = network.down[0][0], network.down[0][2]
        first.weight[0, 0, 1, 1, 1] = -1.0
        second.weight[0, 0, 1, 1, 1] = 1.0
        network.head.weight[:, 0] = 4.0
        network.head.bias[:] = -4.0
    return network.eval()


def segmenter(
    channels: int = 1, *, profile: bool = False, voxel: float = VOXEL, network: UNet | None = None
) -> Segmenter:
    count = channels - profile
    return Segmenter(
        network=network or local_network(channels),
        classes=tuple(f"class {n}" for n in range(count)),
        voxel_size_angstrom=voxel,
        profile=profile,
        thresholds=(0.5,) * count,
    )


def ball(shape: tuple[int, int, int], place_zyx: tuple[float, float, float], radius: float) -> torch.Tensor:
    """(z, y, x) 1 in a ball, 0 outside, with an edge of a voxel."""
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    away = np.sqrt(sum((g - p) ** 2 for g, p in zip(grid, place_zyx, strict=True)))
    return torch.from_numpy(np.clip(radius - away + 0.5, 0, 1).astype(np.float32))


@pytest.mark.parametrize("shape", [(40, 60, 72), (41, 59, 71)])
@pytest.mark.parametrize("voxel", [VOXEL, VOXEL / 1.6])
@pytest.mark.parametrize("mirrors", [1, 4, 8])
def test_scores_lie_on_the_object_at_any_sampling_and_in_any_mirror(shape, voxel, mirrors):
    place = (17.3, 33.8, 44.1)
    generator = torch.Generator().manual_seed(3)
    volume = 0.05 * torch.randn(shape, generator=generator) - 4.0 * ball(shape, place, 9.0)  # matter dark
    found = class_scores(volume, voxel, segmenter(), mirrors=mirrors)
    assert found.shape == (1, *shape)
    assert found.dtype == torch.float32
    weight = ((found[0] - 0.5).clamp_min(0) * ball(shape, place, 13.0)).double()
    grid = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    middle = [float((weight * g).sum() / weight.sum()) for g in grid]
    np.testing.assert_allclose(middle, place, atol=0.2)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_the_specimen_alone_has_scores_and_a_profile_comes_last():
    shape = (48, 40, 36)
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    region = torch.zeros(shape, dtype=torch.bool)
    region[12:20] = True
    network = UNet(UNetParams(out_channels=2, width=4, levels=2))
    initialise(network, 1)
    network.eval()
    found = class_scores(volume, VOXEL, segmenter(2, profile=True, network=network), region=region)
    assert found.shape == (2, *shape)
    assert not found[:, ~region].any()
    assert float(found[0, region].min()) > 0
    assert float(found[1].min()) < 0  # not clipped


def test_mirrors_average_what_one_copy_says():
    shape = (16, 24, 20)
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    network = UNet(UNetParams(width=4, levels=2))
    initialise(network, 4)
    network.eval()
    one = segmenter(network=network)
    single = class_scores(volume, VOXEL, one, mirrors=1)
    turned = class_scores(volume.flip(-1), VOXEL, one, mirrors=1).flip(-1)
    both = class_scores(volume, VOXEL, one, mirrors=2)
    assert float((single - turned).abs().max()) > 1e-3
    torch.testing.assert_close(
        both, (single + turned) / 2, atol=2e-3, rtol=0
    )  # bfloat16: equalised before and after mirroring


def test_scores_refuse_what_they_cannot_use():
    volume = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(2))
    with pytest.raises(InputError, match="needs 10 A or finer"):
        class_scores(volume, 11.0, segmenter())
    with pytest.raises(InputError, match="constant"):
        class_scores(torch.ones(16, 16, 16), VOXEL, segmenter())
    with pytest.raises(InputError, match="expected 1 to 8"):
        class_scores(volume, VOXEL, segmenter(), mirrors=9)


def test_models_tell_their_classes():
    network = local_network(2)
    settings = {"classes": ["sac", "coat"], "profile": False, "voxel_size_angstrom": 14.0, "thresholds": [0.4, 0.7]}
    model = Model(
        purpose=PURPOSE, network=network.params, weights=network.state_dict(), settings=settings, provenance={}
    )
    read = Segmenter.of_model(model)
    assert (read.classes, read.thresholds, read.voxel_size_angstrom) == (("sac", "coat"), (0.4, 0.7), 14.0)
    for wrong in ({"classes": ["sac"]}, {"thresholds": [0.4]}, {"voxel_size_angstrom": -1.0}, {"profile": True}):
        with pytest.raises(FormatError):
            Segmenter.of_model(
                Model(
                    purpose=PURPOSE,
                    network=network.params,
                    weights=network.state_dict(),
                    settings={**settings, **wrong},
                    provenance={},
                )
            )
