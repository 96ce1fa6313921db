"""Networks that denoise and fill the wedge, from the command line: files in, files out, and words for wrong input."""

import errno
import importlib
import json

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from eucentric.denoising.learned.restorer import PURPOSE
from eucentric.denoising.sampled_region import sampled_region
from eucentric.io import atomic
from eucentric.io.atomic import write_bytes_atomic
from eucentric.io.mrc import read_mrc, read_mrc_header, write_mrc
from eucentric.networks import Model, UNet, UNetParams, model_from_bytes, model_to_bytes
from eucentric.networks.train_network import initialise

SHAPE, VOXEL = (32, 40, 36), 10.0
TILTS = ("--tilt-range", "-60", "60")


def through_wedge(volume):
    volume = torch.from_numpy(volume)
    waves = torch.fft.rfftn(volume) * sampled_region(volume.shape, [-60.0, 60.0])
    return torch.fft.irfftn(waves, s=volume.shape).numpy()


def write_volumes(folder, name, *, seed=0, shape=SHAPE, voxel=VOXEL, change=None):
    """A tomogram, the sum of its halves, of a dark box in noise; gives the clean one."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    clean = np.zeros(shape, np.float32)
    clean[8:16, 8:20, 10:24] = -2.0
    clean = through_wedge(clean)
    halves = [0.5 * clean + through_wedge(generator.normal(size=shape).astype(np.float32)) for _ in range(2)]
    if change is not None:
        change(*halves)
    for ending, volume in (("", halves[0] + halves[1]), ("_half1", halves[0]), ("_half2", halves[1])):
        write_mrc(folder / f"{name}{ending}.mrc", np.nan_to_num(volume), voxel, "float32")
        if not np.isfinite(volume).all():  # which no writer of ours makes
            content = (folder / f"{name}{ending}.mrc").read_bytes()
            raw = volume.astype("<f4").tobytes()
            (folder / f"{name}{ending}.mrc").write_bytes(content[: len(content) - len(raw)] + raw)
    return clean


def same_network():
    """SiLU(x) - SiLU(-x) = x: gives back what it is given."""
    network = UNet(UNetParams(width=2, levels=1, normalise=False))
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network.down[0][0].weight[:, 0, 1, 1, 1] = torch.tensor([1.0, -1.0])
        network.down[0][2].weight[:, :, 1, 1, 1] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        network.head.weight[0, :, 0, 0, 0] = torch.tensor([1.0, -1.0])
    return network


def blurring_network():
    """The mean over 3^3 voxels."""
    network = same_network()
    with torch.no_grad():
        network.down[0][0].weight[0] = 1.0 / 27.0
        network.down[0][0].weight[1] = -1.0 / 27.0
    return network


def write_model(path, *, network=None, outputs=("denoised",), voxels=(8.0, 12.0)):
    network = network or same_network()
    made = Model(
        purpose=PURPOSE,
        network=network.params,
        weights=dict(network.state_dict()),
        settings={"outputs": list(outputs), "voxel_size_angstrom": list(voxels)},
        provenance={},
    )
    write_bytes_atomic(path, model_to_bytes(made))
    return path


def learning_network():
    network = UNet(UNetParams(width=3, levels=2, normalise=False))
    initialise(network, 4)
    return network


def halves_of(name):
    return ("--half1", f"{name}_half1.mrc", "--half2", f"{name}_half2.mrc")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# one tomogram


def test_one_tomogram_is_denoised_and_its_trust_told(program, here):
    clean = write_volumes(here, "a")
    write_model(here / "blur.model", network=blurring_network())
    given = ("denoise", "a.mrc", *halves_of("a"), "--model", "blur.model", *TILTS)
    code, out, err = program(*given, "--json")
    assert code == 0, err
    assert "average from the raw data" in out
    told = json.loads(out.splitlines()[-1])
    assert told["volume"] == "a_denoised.mrc"
    assert told["sigma"] == "a_denoised_sigma.mrc"
    raw, made, sigma = (read_mrc(here / f"a{end}.mrc")[0] for end in ("", "_denoised", "_denoised_sigma"))
    assert ((made - clean) ** 2).mean() < 0.3 * ((raw - clean) ** 2).mean()
    left = uniform_filter(raw - clean, 3, mode="constant")  # the noise that passes through the network
    assert np.sqrt((sigma**2).mean()) == pytest.approx(left.std(), rel=0.2)
    assert read_mrc_header(here / "a_denoised.mrc").voxel_size_angstrom[0] == VOXEL
    assert any("not to average" in label for label in read_mrc_header(here / "a_denoised.mrc").labels)
    before = (here / "a_denoised.mrc").read_bytes()
    for kept in ("a_denoised.mrc", "a_denoised_sigma.mrc"):  # neither is replaced unasked
        code, _, err = program(*given)
        assert code == 2
        assert "exists already" in err
        (here / kept).unlink()
    assert program(*given)[0] == 0
    assert program(*given, "--overwrite")[0] == 0
    assert (here / "a_denoised.mrc").read_bytes() == before


def asymmetric(shape):
    """Smooth dark and bright blobs, none in the middle."""
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    out = np.zeros(shape, np.float32)
    for sign, (pz, py, px) in ((-1, (-6, 7, 9)), (1, (5, -9, 3)), (-2, (4, 8, -11))):
        out += sign * np.exp(-((z - pz) ** 2 + (y - py) ** 2 + (x - px) ** 2) / (2 * 3.0**2)).astype(np.float32)
    return out


@pytest.mark.parametrize("shape", [(33, 47, 50), (40, 44, 49)])
@pytest.mark.parametrize("voxels", [(13.0, 15.0), (6.0, 8.0)])
def test_a_tomogram_of_other_voxels_is_resampled_and_stays_where_it_is(program, here, shape, voxels):
    raw = asymmetric(shape)
    write_mrc(here / "p.mrc", raw, VOXEL, "float32")
    write_model(here / "same.model", voxels=voxels)
    code, out, err = program("denoise", "p.mrc", "--model", "same.model", "--output", "d.mrc", *TILTS)
    assert code == 0, err
    assert "resampled" in out
    made, header = read_mrc(here / "d.mrc")
    assert made.shape == shape
    assert header.voxel_size_angstrom[0] == pytest.approx(VOXEL)
    # bfloat16 keeps 0.4%; a shift by half a voxel would change by 8% of the peak at the blobs' flanks
    assert np.abs(made - raw).max() < 0.03 * np.abs(raw).max()


def test_a_voxel_size_the_model_knows_needs_no_resampling(program, here):
    write_mrc(here / "p.mrc", asymmetric(SHAPE), VOXEL, "float32")
    write_model(here / "same.model")
    code, out, err = program("denoise", "p.mrc", "--model", "same.model", *TILTS)
    assert code == 0, err
    assert "resampled" not in out
    assert "No halves" in out
    code, out, err = program(
        "denoise", "p.mrc", "--model", "same.model", "--pixel-size", "20", "--output", "q.mrc", *TILTS
    )
    assert code == 0, err
    assert "resampled" in out
    assert read_mrc_header(here / "q.mrc").voxel_size_angstrom[0] == pytest.approx(20.0)


def test_borders_without_numbers_and_flat_slabs_are_filled_and_told(program, here):
    def change(one, two):
        one[:, :3], two[:, :3] = np.nan, np.nan
        one[-4:], two[-4:] = 0.0, 0.0

    write_volumes(here, "a", change=change)
    write_model(here / "same.model")
    code, out, err = program("denoise", "a.mrc", *halves_of("a"), "--model", "same.model", *TILTS)
    assert code == 0, err
    assert f"{3 * 28 * 36:,} voxels were no numbers" in out
    assert np.isfinite(read_mrc(here / "a_denoised.mrc")[0]).all()
    assert np.isfinite(read_mrc(here / "a_denoised_sigma.mrc")[0]).all()


def test_the_wedge_is_filled_and_hard_data_are_kept(program, here):
    write_volumes(here, "a")
    write_model(here / "fill.model", network=learning_network(), outputs=("filled",))
    arguments = ("fill-wedge", "a.mrc", *halves_of("a"), "--model", "fill.model", *TILTS)
    code, _, err = program(*arguments, "--hard-data")
    assert code == 0, err
    raw, made = (read_mrc(here / f"a{end}.mrc")[0] for end in ("", "_filled"))
    region = sampled_region(SHAPE, [-60.0, 60.0]).numpy()
    before, after = (np.fft.rfftn(v - v.mean()) for v in (raw, made))
    sure = region == 1.0
    assert np.linalg.norm((after - before)[sure]) < 0.02 * np.linalg.norm(before[sure])
    assert np.linalg.norm(after[region == 0.0]) > 3.0 * np.linalg.norm(before[region == 0.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--half1", "a_half1.mrc"], "Only one half"),
        (["--half1", "a_half1.mrc", "--half2", "a_half1.mrc"], "the same volume"),
        (["--half1", "a_half1.mrc", "--half2", "near.mrc"], "share their noise"),
        (["--half1", "a_half1.mrc", "--half2", "b_half2.mrc"], "expected the same size"),
        (["--half1", "b_half1.mrc", "--half2", "b_half2.mrc"], "of another size"),
        (["--half1", "none.mrc", "--half2", "none.mrc"], "does not exist"),
        (["--half1", "a_half1.mrc", "--half2", "flat.mrc"], "one value"),
        (["--model", "fill.model"], "gives filled tomograms"),
        (["--model", "damaged.model"], "damaged"),
        (["--model", "cut.model"], "damaged"),
        (["--model", "a.mrc"], "is no model"),
        (["--model", "silent.model"], "does not say what it restores"),
        (["--model", "none.model"], "does not exist"),
        (["--tilt-range", "60", "-60"], "lowest"),
        (["--tilt-range", "-100", "60"], "lowest"),
        (["--pixel-size", "-2"], "positive"),
        (["--pixel-size", "2"], "voxels at the sampling of the model"),
        (["--output", "a.mrc", "--overwrite"], "a file that is read"),
    ],
)
def test_wrong_input_is_told_and_nothing_written(program, here, arguments, words):
    write_volumes(here, "a")
    write_volumes(here, "b", shape=(32, 40, 30))
    one = read_mrc(here / "a_half1.mrc")[0]
    write_mrc(here / "near.mrc", one + 0.05 * read_mrc(here / "a_half2.mrc")[0], VOXEL, "float32")
    write_mrc(here / "flat.mrc", np.full_like(one, 2.0), VOXEL, "float32")
    write_model(here / "same.model")
    write_model(here / "fill.model", outputs=("filled",))
    content = (here / "same.model").read_bytes()
    (here / "cut.model").write_bytes(content[: len(content) // 2])
    (here / "damaged.model").write_bytes(content.replace(b"head.weight", b"haed.weight"))
    write_model(here / "silent.model", voxels=("some",))
    before = files(here)
    model = [] if "--model" in arguments else ["--model", "same.model"]
    code, _, err = program("denoise", "a.mrc", *model, *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert files(here) == before


def test_a_model_that_denoises_fills_no_wedge(program, here):
    write_volumes(here, "a")
    write_model(here / "same.model")
    code, _, err = program("fill-wedge", "a.mrc", "--model", "same.model", *TILTS)
    assert code == 2
    assert "fill-wedge train" in err


@pytest.mark.parametrize("fault", ["interrupt", "full disk"])
def test_what_stops_in_the_middle_leaves_no_half_file(program, here, monkeypatch, fault):
    write_volumes(here, "a")
    write_model(here / "same.model")
    before = files(here)
    if fault == "interrupt":
        plain, calls = UNet.forward, []

        def stop(self, volumes):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return plain(self, volumes)

        monkeypatch.setattr(UNet, "forward", stop)
    else:

        def full(path):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(atomic, "_sync", full)
    code, _, err = program("denoise", "a.mrc", *halves_of("a"), "--model", "same.model", *TILTS)
    assert code == (130 if fault == "interrupt" else 2)
    assert fault == "interrupt" or "full" in err
    assert files(here) == before


# training


def training(output, *more, name="a", verb="denoise", **changes):
    chosen = {"steps": 6, "checkpoint-steps": 2, "patch-size": 16, "batch-size": 1, "seed": 3} | changes
    options = [part for option, value in chosen.items() for part in (f"--{option}", value)]
    start = ("--start", f"{verb}.model", "--device", "cpu")
    return verb, "train", *halves_of(name), "--output", output, *start, *options, *more


def start_models(folder):
    write_model(folder / "denoise.model", network=learning_network())
    write_model(folder / "fill-wedge.model", network=learning_network(), outputs=("filled",))


def weights(path):
    return model_from_bytes(path.read_bytes(), path.name, purpose=PURPOSE).weights


@pytest.mark.parametrize("verb", ["denoise", "fill-wedge"])
def test_a_stopped_training_goes_on_to_the_very_model(program, here, monkeypatch, verb):
    write_volumes(here, "a")
    start_models(here)
    code, out, err = program(*training("whole.model", *TILTS, verb=verb))
    assert code == 0, err
    assert "6 steps on a;" in out
    module = importlib.import_module("eucentric.cli.train_restorer_commands")

    def stop(step, steps, loss):
        if step == 4:  # a step that is to be judged
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "shown_steps", lambda: stop)
        assert program(*training("stopped.model", *TILTS, verb=verb))[0] == 130
    kept = here / "stopped.model.training"
    assert kept.is_file()
    assert not (here / "stopped.model").exists()
    seen = []
    monkeypatch.setattr(module, "shown_steps", lambda: lambda step, steps, loss: seen.append(step))
    assert program(*training("stopped.model", *TILTS, verb=verb))[0] == 0
    assert seen == [5, 6]
    assert not kept.exists()
    first, second = weights(here / "whole.model"), weights(here / "stopped.model")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    told = [json.loads((here / f"{name}.model.json").read_text()) for name in ("whole", "stopped")]
    assert told[0]["held_out"] == told[1]["held_out"]
    assert told[0]["losses"] == told[1]["losses"]
    assert [step for step, _ in told[0]["held_out"]] == [0, 2, 4, 6]
    assert (here / "stopped.model.png").is_file()
    # what was trained here does its work here
    code, _, err = program(verb, "a.mrc", "--model", "stopped.model", *TILTS)
    assert code == 0, err


def test_another_training_does_not_go_on_with_what_was_stopped(program, here, monkeypatch):
    write_volumes(here, "a")
    start_models(here)
    mask = np.ones(SHAPE, np.float32)
    write_mrc(here / "mask.mrc", mask, VOXEL, "float32")
    module = importlib.import_module("eucentric.cli.train_restorer_commands")
    seen = []

    def stop(step, steps, loss):
        seen.append(step)
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "shown_steps", lambda: stop)
    others = ((*TILTS,), 3), (("--tilt-range", "-50", "50"), 3), ((*TILTS, "--mask", "mask.mrc"), 3), ((*TILTS,), 4)
    for more, seed in others:
        assert program(*training("m.model", *more, seed=seed))[0] == 130
        assert seen == [1, 2, 3], more
        seen.clear()
    write_model(here / "denoise.model", network=same_network())  # the start is another one now
    assert program(*training("m.model", *TILTS, seed=4))[0] == 130
    assert seen == [1, 2, 3]


def test_two_tomograms_of_unequal_sizes_train_one_model(program, here):
    write_volumes(here, "a", change=lambda one, two: (one.__setitem__((slice(None), slice(0, 4)), np.nan), two))
    write_volumes(here, "b", shape=(24, 48, 32), seed=5)
    start_models(here)
    halves = ("--half1", "b_half1.mrc", "--half2", "b_half2.mrc")
    code, out, err = program(*training("m.model", *TILTS, *halves, steps=2))
    assert code == 0, err
    assert "2 steps on a, b;" in out
    assert weights(here / "m.model")


@pytest.mark.parametrize(
    ("halves", "more", "words"),
    [
        (("a_half1.mrc", "a_half1.mrc"), (), "the same volume"),
        (("a_half1.mrc", "near.mrc"), (), "share their noise"),
        (("a_half1.mrc", "b_half2.mrc"), (), "expected the same size"),
        (("a_half1.mrc", "none.mrc"), (), "does not exist"),
        (("a_half1.mrc", None), (), "1 first and 0 second halves"),
        (("thin.mrc", "thin2.mrc"), TILTS, "thinnest tomogram"),
        (("a_half1.mrc", "a_half2.mrc"), ("--tilt-range", "60", "-60"), "lowest"),
        (("a_half1.mrc", "a_half2.mrc"), ("--start", "fill-wedge.model", *TILTS), "gives filled tomograms"),
        (("a_half1.mrc", "a_half2.mrc"), ("--mask", "none.mrc", *TILTS), "the mask of a"),
        (("a_half1.mrc", "a_half2.mrc"), ("--mask", "thin.mrc", *TILTS), "mask of a is"),
        (("a_half1.mrc", "a_half2.mrc"), ("--mask", "empty.mrc", *TILTS), "the mask allows"),
        (("a_half1.mrc", "a_half2.mrc"), ("--pixel-size", "0", *TILTS), "positive"),
        (("a_half1.mrc", "a_half2.mrc"), ("--patch-size", "20", *TILTS), "multiple of 8"),
        (("a_half1.mrc", "a_half2.mrc"), ("--output", "a_half1.mrc", "--overwrite", *TILTS), "a file that is read"),
    ],
)
def test_wrong_halves_train_nothing(program, here, halves, more, words):
    write_volumes(here, "a")
    write_volumes(here, "b", shape=(32, 40, 30))
    start_models(here)
    one, two = (read_mrc(here / f"a_half{n}.mrc")[0] for n in (1, 2))
    write_mrc(here / "near.mrc", one + 0.05 * two, VOXEL, "float32")
    write_mrc(here / "empty.mrc", np.zeros(SHAPE, np.float32), VOXEL, "float32")
    write_mrc(here / "thin.mrc", one[:12], VOXEL, "float32")
    write_mrc(here / "thin2.mrc", two[:12], VOXEL, "float32")
    before = files(here)
    given = [part for name, half in zip(("--half1", "--half2"), halves, strict=True) if half for part in (name, half)]
    start = () if "--start" in more else ("--start", "denoise.model")
    output = () if "--output" in more else ("--output", "m.model")
    code, _, err = program("denoise", "train", *given, *output, *start, "--steps", "2", *more)
    assert code == 2
    assert words in err
    assert files(here) == before


def test_a_model_that_exists_is_not_replaced_unasked(program, here):
    write_volumes(here, "a")
    start_models(here)
    (here / "m.model").write_bytes(b"mine")
    code, _, err = program(*training("m.model", *TILTS))
    assert code == 2
    assert "exists already" in err
    assert (here / "m.model").read_bytes() == b"mine"
    assert program(*training("m.model", *TILTS, "--overwrite", steps=2))[0] == 0
    assert weights(here / "m.model")
