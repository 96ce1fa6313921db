"""Membranes by the network that comes with the program, against specimens of the simulator that it was not shown."""

import math

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.networks.model_file import Model
from eucentric.networks.params import UNetParams
from eucentric.networks.unet import UNet
from eucentric.pipeline.apply_segmenter_files import read_segmenter
from eucentric.pipeline.scene_files import read_preset, scene_species
from eucentric.segmentation.learned.segmenter import PURPOSE, Segmenter
from eucentric.segmentation.membranes.learned_membranes import learned_membranes
from eucentric.segmentation.params import LearnedMembraneParams
from eucentric.simulation.build_specimen import build_specimen
from eucentric.simulation.scene import SceneFilm, SceneMembrane
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams

VOXEL, SIDE, SEED = 11.0, 72, 808
FAST = LearnedMembraneParams(mirrors=1)


@pytest.fixture(scope="module")
def network():
    return Segmenter.of_model(read_segmenter("shipped"))


@pytest.fixture(scope="module")
def box():
    """A deformed vesicle in ice as a tilt series shows it, and the distance to its mid-surface."""
    scene = read_preset("purified-beads").model_copy(
        update={
            "membranes": (SceneMembrane(shape="vesicle", count=1, radius_angstrom=(260.0, 270.0), roughness=0.06),),
            "film": SceneFilm(thickness_angstrom=900.0),
            "microscope": {"image_size_px": [160, 160], "pixel_size_angstrom": 5.0},
        }
    )
    specimen = build_specimen(scene, scene.params(seed=SEED), scene_species(scene), np.random.default_rng(SEED))
    params = SubvolumeParams(
        box_size=SIDE,
        voxel_size_angstrom=VOXEL,
        turn="in-plane",
        dose=(120.0, 121.0),
        thickness_angstrom=(900.0, 901.0),
    )
    return SubvolumeDataset([specimen], params, count=1, seed=SEED)[0]


@pytest.fixture(scope="module")
def volume(box):
    return 0.5 * (box["half1"] + box["half2"])


@pytest.fixture(scope="module")
def found(network, volume):
    return learned_membranes(volume, VOXEL, network, FAST)


def test_a_vesicle_is_one_sheet_where_it_is(found, box):
    distance = box["membrane_distance"].numpy()
    truth = np.abs(distance) <= 26.0
    assert truth.sum() > 5000
    labels = found.labels.numpy()
    assert 2.0 * ((labels > 0) & truth).sum() / ((labels > 0).sum() + truth.sum()) >= 0.75
    share = (found.numbers == 1).mean()
    assert share > 0.9
    at = np.rint(found.places_px[:, ::-1]).astype(int).clip(0, SIDE - 1)
    away = np.abs(distance[tuple(at.T)])
    normal = np.stack(np.gradient(distance, VOXEL))[(slice(None), *at.T)]
    measured = np.abs(normal[0]) <= math.tan(math.radians(55.0)) * np.abs(normal[2])
    assert 0.3 < measured.mean() < 0.8
    assert (away[measured] < 2.0 * VOXEL).mean() > 0.95
    assert np.median(away[measured]) < 0.6 * VOXEL
    # what closes the vesicle in the wedge was not measured: near, and no more
    assert (away[~measured] < 4.0 * VOXEL).mean() > 0.8


def test_normals_of_a_closed_vesicle_point_outwards(found, box):
    distance = box["membrane_distance"].numpy()
    slopes = np.stack(np.gradient(distance, VOXEL))  # outwards
    at = np.rint(found.places_px[:, ::-1]).astype(int).clip(0, SIDE - 1)
    outwards = slopes[(slice(None), *at.T)].T[:, ::-1]
    assert np.median((outwards * found.normals).sum(1)) > 0.9


def test_turned_about_the_tilt_axis_the_same_is_found_turned(network, volume, found):
    turned = learned_membranes(volume.flip(0, 2), VOXEL, network, FAST).labels.numpy() > 0
    back = np.zeros_like(turned)
    # voxel n // 2 of an even size is not in the middle, but flips are of samples
    back[:] = turned[::-1, :, ::-1]
    same = found.labels.numpy() > 0
    assert 2.0 * (back & same).sum() / (back.sum() + same.sum()) > 0.85


def test_a_model_without_profile_serves_too(network, volume, box):
    """As a training on a user's labels makes it, from the one that comes with the program."""
    bare = UNet(network.network.params.replace(out_channels=1))
    weights = network.network.state_dict()
    bare.load_state_dict({name: w[:1] if name.startswith("head.") else w for name, w in weights.items()})
    own = Segmenter(
        network=bare.eval(), classes=("membrane",), voxel_size_angstrom=12.0, profile=False, thresholds=(0.5,)
    )
    found = learned_membranes(volume, VOXEL, own, FAST)
    at = np.rint(found.places_px[:, ::-1]).astype(int).clip(0, SIDE - 1)
    away = np.abs(box["membrane_distance"].numpy()[tuple(at.T)])
    assert len(away) > 1000
    assert np.median(away) < 0.8 * VOXEL


def test_bright_matter_is_told(network, volume, found):
    bright = learned_membranes(
        -volume, VOXEL, network, LearnedMembraneParams(mirrors=1, contrast="bright")
    ).labels.numpy()
    assert (bright == found.labels.numpy()).all()


def test_protected_places_stay_empty(network, volume):
    counted = torch.ones(volume.shape, dtype=torch.bool)
    counted[:, :, : SIDE // 2] = False
    labels = learned_membranes(volume, VOXEL, network, FAST, counted=counted).labels
    assert bool((labels[:, :, SIDE // 2 + 4 :] > 0).any())
    assert not bool((labels[:, :, : SIDE // 2 - 4] > 0).any())


def test_noise_holds_no_membrane(network):
    noise = torch.randn((48, 48, 48), generator=torch.Generator().manual_seed(3))
    assert learned_membranes(noise, VOXEL, network, FAST).areas_angstrom2.sum() == 0.0


def test_what_cannot_be_segmented_is_told(network):
    noise = torch.randn((32, 32, 32), generator=torch.Generator().manual_seed(3))
    with pytest.raises(InputError, match="voxels of 20 A"):
        learned_membranes(noise, 20.0, network, FAST)
    with pytest.raises(InputError, match="constant"):
        learned_membranes(torch.ones(32, 32, 32), VOXEL, network, FAST)
    with pytest.raises(InputError, match="at least a side"):
        learned_membranes(noise[:1], VOXEL, network, FAST)
    with pytest.raises(InputError, match="not numbers"):
        learned_membranes(noise.log(), VOXEL, network, FAST)
    with pytest.raises(InputError, match="No voxel is left"):
        learned_membranes(noise, VOXEL, network, FAST, counted=torch.zeros(32, 32, 32, dtype=torch.bool))
    with pytest.raises(ShapeError):
        learned_membranes(noise[0], VOXEL, network, FAST)
    shape = UNetParams(width=2, levels=1, out_channels=2)
    settings = {"classes": ["ribosome", "actin"], "profile": False, "voxel_size_angstrom": 12.0}
    model = Model(purpose=PURPOSE, network=shape, weights=UNet(shape).state_dict(), settings=settings, provenance={})
    with pytest.raises(InputError, match="no class called membrane"):
        learned_membranes(noise, VOXEL, Segmenter.of_model(model), FAST)
    with pytest.raises(InputError, match="lower one"):
        LearnedMembraneParams(threshold=0.3, follow_threshold=0.6)
