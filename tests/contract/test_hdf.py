"""HDF files of EMAN2: values, headers as EMAN2 keeps them, and files that are damaged."""

import h5py
import numpy as np
import pytest

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.hdf import read_hdf, read_hdf_header, read_hdf_headers, validate_hdf, write_hdf

VOLUME = np.random.default_rng(0).normal(3.0, 2.0, (5, 12, 9)).astype(np.float32)


def by_hand(path, values, attributes=None, **options):
    """A file as EMAN2's hdfio2.cpp lays it out, made with h5py alone."""
    with h5py.File(path, "w") as file:
        images = file.create_group("/MDF/images")
        images.attrs["imageid_max"] = np.array([0], dtype=np.int32)
        group = images.create_group("0")
        for name, value in (attributes or {}).items():
            group.attrs["EMAN." + name] = value
        group.create_dataset("image", data=values, **options)


def test_a_volume_comes_back_with_its_header(tmp_path):
    turn = np.hstack([np.eye(3)[::-1] * [1, -1, 1], [[1.5], [2.5], [-3.5]]])
    extra = {
        "xform.align3d": turn,
        "name": "ribosome",
        "good": True,
        "bad": False,
        "ptcl_source_coord": [1.0, 2.0, 3.0],
        "idx": [4, 5],
    }
    write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5, attributes=extra)
    array, header = read_hdf(tmp_path / "a.hdf")
    np.testing.assert_array_equal(array, VOLUME)
    assert (header.shape, header.count, header.voxel_size_angstrom, header.bits) == ((5, 12, 9), 1, (2.5, 2.5, 2.5), 0)
    np.testing.assert_array_equal(header.attributes["xform.align3d"], turn)
    assert header.attributes["name"] == "ribosome"
    assert header.attributes["good"] is True
    assert header.attributes["bad"] is False
    np.testing.assert_array_equal(header.attributes["ptcl_source_coord"], [1, 2, 3])
    np.testing.assert_array_equal(header.attributes["idx"], [4, 5])
    assert (header.attributes["nx"], header.attributes["ny"], header.attributes["nz"]) == (9, 12, 5)
    assert validate_hdf(tmp_path / "a.hdf") == []


def test_the_file_is_laid_out_as_eman2_reads_it(tmp_path):
    """Types of hdfio2.cpp: int32 and float32, closed texts of fixed length, a Transform as a compound of twelve floats."""
    write_hdf(
        tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5, attributes={"s": "abc", "t": np.eye(3, 4), "b": True}
    )
    with h5py.File(tmp_path / "a.hdf") as file:
        images = file["/MDF/images"]
        assert images.attrs["imageid_max"] == 0
        group = images["0"]
        assert group["image"].dtype == np.float32
        assert group["image"].shape == (5, 12, 9)
        kind = group.attrs.get_id("EMAN.s").get_type()
        assert kind.get_class() == h5py.h5t.STRING
        assert not kind.is_variable_str()
        assert kind.get_size() == 4  # with the zero that ends it
        assert group.attrs.get_id("EMAN.nx").dtype == np.int32
        assert group.attrs.get_id("EMAN.apix_x").dtype == np.float32
        assert group.attrs.get_id("EMAN.b").dtype == np.int8
        assert chr(group.attrs["EMAN.b"][0]) == "T"
        compound = group.attrs.get_id("EMAN.t").dtype
        assert compound.names == tuple(f"{r}{c}" for r in range(3) for c in range(4))
        assert compound.itemsize == 48


@pytest.mark.parametrize(("bits", "kind"), [(3, "u1"), (8, "u1"), (12, "u2"), (16, "u2")])
def test_reduced_values_are_within_half_a_step(tmp_path, bits, kind):
    write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5, bits=bits)
    array, header = read_hdf(tmp_path / "a.hdf")
    step = float(VOLUME.max() - VOLUME.min()) / (2**bits - 1)
    assert np.abs(array - VOLUME).max() <= 0.5 * step * 1.01 + 1e-6
    assert header.bits == bits
    with h5py.File(tmp_path / "a.hdf") as file:
        group = file["/MDF/images/0"]
        assert group["image"].dtype == np.dtype(kind)
        assert group["image"].compression == "gzip"
        # EMAN2's own way back: data / (2^bits - 1) * (max - min) + min
        low, high = (float(group.attrs[f"EMAN.stored_render{m}"][0]) for m in ("min", "max"))
        theirs = group["image"][()] / (2**bits - 1) * (high - low) + low
    np.testing.assert_allclose(array, theirs, atol=1e-5)


def test_a_reduced_file_made_by_hand(tmp_path):
    stored = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    attributes = {
        "stored_rendermin": np.float32(-1),
        "stored_rendermax": np.float32(4.1),
        "stored_renderbits": np.int32(8),
        "apix_x": 2.0,
    }
    by_hand(tmp_path / "a.hdf", stored, attributes, compression="gzip")
    array, header = read_hdf(tmp_path / "a.hdf")
    np.testing.assert_allclose(array, [[[-1.0, 1.0], [3.0, 4.1]]], atol=1e-5)
    assert header.shape == (1, 2, 2)
    assert header.voxel_size_angstrom is None  # apix_y and apix_z are missing
    (finding,) = validate_hdf(tmp_path / "a.hdf")
    assert (finding.severity, "voxel size" in finding.text) == ("warning", True)


def test_a_constant_image_can_be_reduced(tmp_path):
    write_hdf(tmp_path / "a.hdf", np.full((4, 4), 7.0), voxel_size_angstrom=1.0, bits=8)
    np.testing.assert_array_equal(read_hdf(tmp_path / "a.hdf")[0], np.full((1, 4, 4), 7.0))


def test_sections_as_images(tmp_path):
    write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5, as_images=True)
    assert len(read_hdf_headers(tmp_path / "a.hdf")) == 5
    for i in range(5):
        array, header = read_hdf(tmp_path / "a.hdf", i)
        np.testing.assert_array_equal(array[0], VOLUME[i])
        assert header.count == 5
    with pytest.raises(InputError, match=r"no image 5.*holds 5"):
        read_hdf(tmp_path / "a.hdf", 5)
    with pytest.raises(InputError, match="no image -1"):
        read_hdf_header(tmp_path / "a.hdf", -1)


@pytest.mark.parametrize("keep", [0, 7, 8, 50, 500, 0.3, 0.9, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5)
    raw = (tmp_path / "a.hdf").read_bytes()
    (tmp_path / "b.hdf").write_bytes(raw[: keep if isinstance(keep, int) else int(keep * len(raw))])
    with pytest.raises(FormatError, match=r"not an HDF5 file|damaged|cut short"):
        read_hdf(tmp_path / "b.hdf")
    (finding,) = validate_hdf(tmp_path / "b.hdf")
    assert finding.severity == "error"


def test_other_hdf_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(FormatError, match="not one of EMAN2"):
        read_hdf(tmp_path / "a.hdf")
    with h5py.File(tmp_path / "b.hdf", "w") as file:
        file.create_group("MDF/images/0")
    with pytest.raises(FormatError, match="no values"):
        read_hdf(tmp_path / "b.hdf")
    by_hand(tmp_path / "c.hdf", np.array([b"text"]))
    with pytest.raises(FormatError, match="not known; expected numbers"):
        read_hdf(tmp_path / "c.hdf")
    by_hand(tmp_path / "e.hdf", np.zeros((2, 2), dtype="f2"))
    with pytest.raises(FormatError, match="type that is not known"):
        read_hdf(tmp_path / "e.hdf")
    by_hand(tmp_path / "d.hdf", np.zeros((2, 2, 2, 2)))
    with pytest.raises(FormatError, match="shape"):
        read_hdf(tmp_path / "d.hdf")
    with pytest.raises(InputError, match="does not exist"):
        read_hdf(tmp_path / "none.hdf")


def test_sizes_that_are_not_there_take_no_memory(tmp_path):
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        group = file.create_group("MDF/images/0")
        group.create_dataset(
            "image", shape=(100_000, 100_000, 100_000), dtype="f4", chunks=(1, 64, 64), compression="gzip"
        )
    with pytest.raises(FormatError, match=r"4,000,000,000,000,000 bytes"):
        read_hdf(tmp_path / "a.hdf")
    with h5py.File(tmp_path / "b.hdf", "w") as file:
        file.create_group("MDF/images/0").create_dataset("image", shape=(100_000, 100_000, 100), dtype="f4")
    with pytest.raises(FormatError, match="cut short"):
        read_hdf(tmp_path / "b.hdf")


def test_links_to_elsewhere_are_not_followed(tmp_path):
    write_hdf(tmp_path / "secret.hdf", VOLUME, voxel_size_angstrom=1.0)
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file.create_group("MDF/images")["0"] = h5py.ExternalLink("secret.hdf", "/MDF/images/0")
    with pytest.raises(InputError, match="no image 0"):
        read_hdf(tmp_path / "a.hdf")


def test_mutated_bytes_end_in_words(tmp_path):
    rng = np.random.default_rng(11)
    write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5, bits=8, attributes={"t": np.eye(3, 4), "s": "x"})
    raw = (tmp_path / "a.hdf").read_bytes()
    faults = 0
    for _ in range(250):
        content = bytearray(raw)
        for _ in range(rng.integers(1, 30)):
            content[rng.integers(len(content))] = rng.integers(256)
        (tmp_path / "m.hdf").write_bytes(bytes(content))
        faults += bool(validate_hdf(tmp_path / "m.hdf"))
    assert faults > 50


def test_a_damaged_type_in_a_transform_is_refused(tmp_path):
    """Converting it broke the memory of the HDF library; types are compared before anything is read."""
    write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=2.5, attributes={"xform.align3d": np.eye(3, 4)})
    raw = (tmp_path / "a.hdf").read_bytes()
    single = bytes.fromhex("11201f000400000000002000170800177f000000")  # IEEE float of 32 bits as a file describes it
    assert raw.count(single) >= 12
    where = raw.index(single, raw.index(b"xform.align3d"))
    for byte, value in ((8, 200), (10, 49), (12, 200), (13, 77), (15, 90)):
        content = bytearray(raw)
        content[where + byte] = value
        (tmp_path / "m.hdf").write_bytes(bytes(content))
        with pytest.raises(FormatError):
            read_hdf(tmp_path / "m.hdf")


def test_values_that_are_not_numbers_are_found(tmp_path):
    broken = VOLUME.copy()
    broken[0, 0, :3] = np.nan
    write_hdf(tmp_path / "a.hdf", broken, voxel_size_angstrom=1.0)
    assert ["3 values that are not numbers" in f.text for f in validate_hdf(tmp_path / "a.hdf")] == [True]
    with pytest.raises(InputError, match="NaN"):
        write_hdf(tmp_path / "b.hdf", broken, voxel_size_angstrom=1.0, bits=8)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ShapeError):
        write_hdf(tmp_path / "a.hdf", np.zeros(3), voxel_size_angstrom=1.0)
    with pytest.raises(InputError, match="17 bits"):
        write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=1.0, bits=17)
    with pytest.raises(InputError, match="voxel size"):
        write_hdf(tmp_path / "a.hdf", VOLUME, voxel_size_angstrom=0.0)
    assert list(tmp_path.iterdir()) == []
