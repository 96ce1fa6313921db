"""Pictures and the views of a volume: which way is up, which grey is which value."""

import imagecodecs
import matplotlib.image
import numpy as np
import pytest

from eucentric.errors import InputError, ShapeError
from eucentric.io import ViewCollector, central_range, volume_views, write_png, write_views


def test_the_first_row_is_at_the_bottom_and_greys_are_linear(tmp_path):
    image = np.arange(12.0).reshape(3, 4) * 5 - 7
    write_png(tmp_path / "a.png", image, 0.0)
    got = matplotlib.image.imread(tmp_path / "a.png")  # first row at the top
    assert got.shape == (3, 4)
    np.testing.assert_allclose(got[::-1], np.arange(12.0).reshape(3, 4) / 11, atol=0.5 / 255 + 1e-6)


def test_the_percentile_makes_outliers_black_and_white(tmp_path):
    image = np.linspace(0.0, 1.0, 1000).reshape(20, 50)
    image[0, 0], image[-1, -1] = -1e6, 1e6
    write_png(tmp_path / "a.png", image, 10.0)
    got = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert got.dtype == np.uint8
    # Half a step of grey at each end rounds to black and to white.
    assert np.count_nonzero(got == 0) == pytest.approx(100 + 800 / 255 / 2, abs=2)
    assert np.count_nonzero(got == 255) == pytest.approx(100 + 800 / 255 / 2, abs=2)


@pytest.mark.parametrize(("value", "grey"), [(3.0, 0), (np.nan, 0)])
def test_flat_and_empty_pictures_are_black(tmp_path, value, grey):
    write_png(tmp_path / "a.png", np.full((4, 4), value))
    assert (imagecodecs.png_decode((tmp_path / "a.png").read_bytes()) == grey).all()


def test_pixels_that_are_not_numbers_do_not_change_the_others(tmp_path):
    image = np.arange(20.0).reshape(4, 5)
    write_png(tmp_path / "a.png", image, 0.0)
    before = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    image[1, 2] = np.inf
    write_png(tmp_path / "b.png", image, 0.0)
    after = imagecodecs.png_decode((tmp_path / "b.png").read_bytes())
    assert np.argwhere(before != after).tolist() == [[2, 2]]
    assert after[2, 2] == 0


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"\(y, x\)"):
        write_png(tmp_path / "a.png", np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match="percentile"):
        write_png(tmp_path / "a.png", np.zeros((2, 2)), 50.0)


@pytest.mark.parametrize(
    ("count", "planes", "expected"), [(8, 1, [4]), (7, 1, [3]), (8, 3, [3, 4, 5]), (8, 2, [4, 5]), (2, 9, [0, 1])]
)
def test_the_centre_is_voxel_n_half(count, planes, expected):
    assert list(range(count)[central_range(count, planes)]) == expected


@pytest.mark.parametrize("shape", [(6, 5, 4), (3, 8, 7), (1, 1, 2)])
def test_views_of_a_volume_in_slabs(shape):
    volume = np.random.default_rng(1).normal(size=shape).astype("f4")
    collector = ViewCollector(shape)
    collector.write(volume[:1])
    collector.write(volume[1:])
    views = collector.views()
    z, y, x = (n // 2 for n in shape)
    np.testing.assert_array_equal(views.slice_z, volume[z])
    np.testing.assert_array_equal(views.slice_y, volume[:, y])
    np.testing.assert_array_equal(views.slice_x, volume[:, :, x])
    for name, axis in (("projection_z", 0), ("projection_y", 1), ("projection_x", 2)):
        np.testing.assert_allclose(getattr(views, name), volume.mean(axis=axis), atol=1e-6)


def test_thick_slices_are_means():
    volume = np.random.default_rng(1).normal(size=(8, 9, 10)).astype("f4")
    views = volume_views(volume, 3)
    np.testing.assert_allclose(views.slice_z, volume[3:6].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(views.slice_y, volume[:, 3:6].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(views.slice_x, volume[:, :, 4:7].mean(axis=2), atol=1e-6)


def test_views_become_six_pictures(tmp_path):
    volume = np.zeros((3, 4, 5))
    volume[2, 1, 2] = 1.0  # a bright voxel above the middle in z, below it in y
    paths = write_views(tmp_path, "cell", volume_views(volume), 0.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    pictures = {p.stem: imagecodecs.png_decode(p.read_bytes()) for p in paths}
    assert np.argwhere(pictures["cell_projection_z"]).tolist() == [[2, 2]]
    assert np.argwhere(pictures["cell_projection_y"]).tolist() == [[0, 2]]
    assert np.argwhere(pictures["cell_projection_x"]).tolist() == [[0, 1]]
    assert not pictures["cell_slice_z"].any()


def test_missing_and_wrong_planes_are_refused():
    collector = ViewCollector((3, 2, 2))
    collector.write(np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="after 1 of 3"):
        collector.views()
    with pytest.raises(ShapeError):
        collector.write(np.zeros((3, 2, 2)))
    with pytest.raises(ShapeError):
        collector.write(np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="planes"):
        ViewCollector((3, 2, 2), 0)
    with pytest.raises(ShapeError):
        ViewCollector((0, 2, 2))
    with pytest.raises(ShapeError):
        volume_views(np.zeros((2, 2)))
