"""EER movies: every electron at its place, fractions, metadata, damage."""

import time

import numpy as np
import pytest
import tifffile
from eer_writer import encode, metadata_xml, write_eer

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import EerRendering, movie_header, open_movie, read_gain, read_movie
from eucentric.io.eer_writer import encode_readout
from eucentric.io.eer_writer import write_eer as write_own_eer

SHAPE = (24, 36)


def electrons_of(seed, shape=SHAPE, chance=0.02, sub=4):
    """(y, x) in sub-pixels from the top left, one a pixel at most."""
    generator = np.random.default_rng(seed)
    y, x = np.nonzero(generator.random(shape) < chance)
    return np.stack([y, x], axis=1) * sub + generator.integers(0, sub, (len(y), 2))


def counted(frames, shape=SHAPE, upsampling=1, sub=4):
    """Electrons by the pixel they fall in, the lowest row first."""
    image = np.zeros((shape[0] * upsampling, shape[1] * upsampling), dtype=int)
    for y, x in np.concatenate([np.reshape(f, (-1, 2)) for f in frames]).astype(int):
        image[len(image) - 1 - y * upsampling // sub, x * upsampling // sub] += 1
    return image


def movie_of(path, count=12, **options):
    frames = [electrons_of(seed) for seed in range(count)]
    write_eer(path, [encode(f, SHAPE) for f in frames], SHAPE, **options)
    return frames


@pytest.mark.parametrize("upsampling", [1, 2, 4])
@pytest.mark.parametrize(
    ("compression", "skip_bits", "wasteful"),
    [(65001, 7, False), (65000, 8, True), (65000, 8, False), (65002, 9, False)],
)
def test_every_electron_is_where_it_was_written(tmp_path, compression, skip_bits, wasteful, upsampling):
    frames = [electrons_of(seed, chance=chance) for seed, chance in enumerate([0.02, 0.5, 0.001, 0.003])]
    streams = [encode(f, SHAPE, skip_bits=skip_bits, wasteful=wasteful) for f in frames]
    tags = {65007: (3, [skip_bits]), 65008: (3, [2]), 65009: (3, [2])}.items() if compression == 65002 else ()
    write_eer(tmp_path / "m.eer", streams, SHAPE, compression=compression, tags=tags)
    got, header = read_movie(tmp_path / "m.eer", eer=EerRendering(frames_per_fraction=1, upsampling=upsampling))
    assert header.shape == got.shape[1:] == (SHAPE[0] * upsampling, SHAPE[1] * upsampling)
    for image, electrons in zip(got, frames, strict=True):
        np.testing.assert_array_equal(image, counted([electrons], upsampling=upsampling))


def test_one_electron_near_the_top_left_lands_high_on_the_left(tmp_path):
    # pixel 2 from the left in the first row of the file; in it the right half, the lowest quarter
    write_eer(tmp_path / "m.eer", [encode([(3, 2 * 4 + 2)], SHAPE)], SHAPE)
    where = {
        upsampling: np.argwhere(read_movie(tmp_path / "m.eer", eer=EerRendering(upsampling=upsampling))[0][0]).tolist()
        for upsampling in (1, 2, 4)
    }
    assert where == {1: [[23, 2]], 2: [[46, 5]], 4: [[92, 10]]}


@pytest.mark.parametrize(("compression", "skip_bits", "wasteful"), [(65001, 7, False), (65000, 8, True)])
@pytest.mark.parametrize(
    "pixels",
    [
        [],
        [0],
        [863],
        [0, 863],
        [127],
        [126],
        [128],
        [254],
        [255],
        [256],
        [0, 255, 256, 511],
        [608, 736],
        list(range(864)),
    ],
)
def test_runs_of_any_length_and_both_ends_of_the_frame(tmp_path, compression, skip_bits, wasteful, pixels):
    electrons = np.array([(p // 36 * 4 + 1, p % 36 * 4 + 2) for p in pixels]).reshape(-1, 2)
    stream = encode(electrons, SHAPE, skip_bits=skip_bits, wasteful=wasteful)
    write_eer(tmp_path / "m.eer", [stream], SHAPE, compression=compression)
    np.testing.assert_array_equal(
        read_movie(tmp_path / "m.eer", eer=EerRendering(upsampling=4))[0][0], counted([electrons], upsampling=4)
    )


def test_places_in_halves_of_a_pixel_are_not_made_finer(tmp_path):
    electrons = electrons_of(1, sub=2)
    tags = {65007: (3, [7]), 65008: (3, [1]), 65009: (3, [1])}.items()
    write_eer(tmp_path / "m.eer", [encode(electrons, SHAPE, sub_bits=1)], SHAPE, compression=65002, tags=tags)
    for upsampling in (1, 2):
        np.testing.assert_array_equal(
            read_movie(tmp_path / "m.eer", eer=EerRendering(upsampling=upsampling))[0][0],
            counted([electrons], upsampling=upsampling, sub=2),
        )
    with pytest.raises(InputError, match=r"0\.5 of a pixel.*2 or less"):
        movie_header(tmp_path / "m.eer", eer=EerRendering(upsampling=4))


def test_the_container_is_read_alike_by_another_program(tmp_path):
    frames = movie_of(tmp_path / "m.eer", 3, metadata=metadata_xml(numberOfFrames="3"))
    stored = tifffile.imread(tmp_path / "m.eer")
    np.testing.assert_array_equal(stored[:, ::-1], [counted([f]) for f in frames])
    got, _ = read_movie(tmp_path / "m.eer", eer=EerRendering(frames_per_fraction=1))
    np.testing.assert_array_equal(got, stored[:, ::-1])


def test_a_frame_may_lie_in_several_strips_after_a_summed_image(tmp_path):
    summed = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    frames = movie_of(tmp_path / "m.eer", 3, strips=3, summed=summed, metadata=metadata_xml(exposureTime=("1.5", "s")))
    got, header = read_movie(tmp_path / "m.eer", eer=EerRendering(fractions=1))
    np.testing.assert_array_equal(got[0], counted(frames))
    assert (header.sensor_frame_count, header.eer.exposure_s) == (3, 1.5)


@pytest.mark.parametrize(
    ("rendering", "each"),
    [
        (None, 2),  # 10 fractions
        (EerRendering(frames_per_fraction=5), 5),
        (EerRendering(frames_per_fraction=23), 23),
        (EerRendering(fractions=4), 5),
        (EerRendering(fractions=1), 23),
        (EerRendering(fractions=99), 1),
        (EerRendering(dose_per_fraction=0.3, dose=2.3), 3),
        (EerRendering(dose_per_fraction=0.34, dose=2.3), 3),
        (EerRendering(dose_per_fraction=0.001, dose=2.3), 1),
    ],
)
def test_fractions_are_sums_of_frames_and_the_rest_is_told(tmp_path, rendering, each):
    frames = movie_of(tmp_path / "m.eer", 23)
    got, header = read_movie(tmp_path / "m.eer", eer=rendering)
    assert header.frame_count == len(got) == 23 // each
    assert header == movie_header(tmp_path / "m.eer", eer=rendering)
    for index, fraction in enumerate(got):
        np.testing.assert_array_equal(fraction, counted(frames[index * each : (index + 1) * each]))
    assert (got.dtype, header.dtype) == (np.uint8, np.uint8)
    left = 23 % each
    assert header.notes == ((f"the last {left} of 23 sensor frames fill no fraction and are left out",) if left else ())


def test_dose_is_that_of_the_file_unless_given(tmp_path):
    # 2.4 electrons a pixel of 2 A, thus 0.6 e/A2, in 12 frames: 0.05 e/A2 each
    metadata = metadata_xml(
        numberOfFrames="12", exposureTime=("2.5", "s"), totalDose=("2.4", "e/pixel"), meanDoseRate=("0.96", "e/pixel/s"),
        sensorImageWidth=("36", "pixels"), sensorImageHeight=("24", "pixels"), sensorPixelSize__width=("2e-10", "m"),
        eerGainReference="C:\\gain\\2026_EER_GainReference.gain", commercialName="Falcon 4i",
    )  # fmt: skip
    movie_of(tmp_path / "m.eer", metadata=metadata)
    header = movie_header(tmp_path / "m.eer", eer=EerRendering(dose_per_fraction=0.2, upsampling=2))
    assert (header.frame_count, header.shape, header.sensor_frame_count) == (3, (48, 72), 12)
    assert header.dose_per_frame == pytest.approx(0.2)
    assert header.pixel_size_angstrom == pytest.approx(1.0)
    said = header.eer
    assert (said.exposure_s, said.dose_per_pixel, said.frame_count, said.pixel_size_angstrom) == (2.5, 2.4, 12, 2.0)
    assert (said.gain_name, said.camera) == ("2026_EER_GainReference.gain", "Falcon 4i")
    assert said.dose == pytest.approx(0.6)
    header = movie_header(tmp_path / "m.eer", eer=EerRendering(dose_per_fraction=0.2, dose=1.2))
    assert (header.frame_count, header.dose_per_frame) == (6, pytest.approx(0.2))


@pytest.mark.parametrize("metadata", [None, b"", b"<metadata><item", b"\xff\xfe<", metadata_xml(totalDose="soon")])
def test_unreadable_metadata_leave_the_movie_as_it_is(tmp_path, metadata):
    frames = movie_of(tmp_path / "m.eer", 2, metadata=metadata)
    got, header = read_movie(tmp_path / "m.eer", eer=EerRendering(fractions=1))
    np.testing.assert_array_equal(got[0], counted(frames))
    assert header.dose_per_frame is None
    assert header.pixel_size_angstrom is None
    with pytest.raises(InputError, match="does not say its dose"):
        movie_header(tmp_path / "m.eer", eer=EerRendering(dose_per_fraction=0.5))


def test_more_than_255_frames_in_a_fraction_do_not_overflow(tmp_path):
    electrons = np.array([(5, 9)])
    write_eer(tmp_path / "m.eer", [encode(electrons, SHAPE)] * 300, SHAPE)
    got, header = read_movie(tmp_path / "m.eer", eer=EerRendering(fractions=1))
    assert header.dtype == got.dtype == np.uint16
    np.testing.assert_array_equal(got[0], 300 * counted([electrons]))


def test_fractions_do_not_depend_on_how_they_are_read(tmp_path):
    movie_of(tmp_path / "m.eer", 14)
    rendering = EerRendering(frames_per_fraction=2, upsampling=2)
    whole = read_movie(tmp_path / "m.eer", eer=rendering)[0]
    for threads in (1, 2, 5):
        with open_movie(tmp_path / "m.eer", eer=rendering, threads=threads) as movie:
            for count in (1, 3, 7):
                blocks = list(movie.blocks(count))
                assert [start for start, _ in blocks] == list(range(0, 7, count))
                np.testing.assert_array_equal(np.concatenate([frames for _, frames in blocks]), whole)
            np.testing.assert_array_equal(movie.read(4, 5), whole[4:5])
            for start, stop in ((0, 8), (-1, 2), (3, 3), (7, 8)):
                with pytest.raises(ShapeError, match=r"m\.eer` were asked for, which has 7"):
                    movie.read(start, stop)


def test_a_gain_file_fits_the_frames_pixel_by_pixel(tmp_path):
    gain = np.ones(SHAPE, dtype=np.float32)
    gain[2, 30] = 0  # a defect, in rows from the top as both files store them
    tifffile.imwrite(tmp_path / "g.gain", gain)
    write_eer(tmp_path / "m.eer", [encode([(2 * 4, 30 * 4)], SHAPE)], SHAPE)
    frame = read_movie(tmp_path / "m.eer")[0][0]
    assert frame.sum() == 1
    assert (frame * read_gain(tmp_path / "g.gain")).sum() == 0


def test_any_cut_through_a_movie_says_after_which_frame(tmp_path):
    streams = [encode(electrons_of(seed), SHAPE) for seed in range(6)]
    ends = write_eer(tmp_path / "m.eer", streams, SHAPE, metadata=metadata_xml(numberOfFrames="6"))
    raw = (tmp_path / "m.eer").read_bytes()
    for cut in range(17, len(raw), 7):
        (tmp_path / "cut.eer").write_bytes(raw[:cut])
        whole = sum(end <= cut for end in ends)
        of_total = " of 6" if whole else ""
        with pytest.raises(
            FormatError, match=rf"cut\.eer` ends after frame {whole}{of_total} \(the file is {cut:,} bytes"
        ):
            movie_header(tmp_path / "cut.eer")


@pytest.mark.parametrize("raw", [b"", b"II", b"II+\0\x08\0\0\0", b"no movie, but some text of more than 16 bytes"])
def test_what_is_no_tiff_is_refused(tmp_path, raw):
    (tmp_path / "m.eer").write_bytes(raw)
    with pytest.raises(FormatError, match=r"m\.eer"):
        read_movie(tmp_path / "m.eer")


def test_empty_frames_at_the_end_are_left_out_and_told(tmp_path):
    frames = [electrons_of(seed) for seed in range(5)]
    streams = [encode(f, SHAPE) for f in frames]
    write_eer(tmp_path / "m.eer", [*streams, b"", b""], SHAPE, metadata=metadata_xml(numberOfFrames="9"))
    got, header = read_movie(tmp_path / "m.eer", eer=EerRendering(frames_per_fraction=5, dose=9.0))
    np.testing.assert_array_equal(got[0], counted(frames))
    assert header.notes == (
        "the last 2 sensor frames are empty and are left out",
        "9 sensor frames were recorded; 2 of them are not in the file",
    )
    assert header.dose_per_frame == pytest.approx(5.0)
    write_eer(tmp_path / "m.eer", [streams[0], b"", streams[1]], SHAPE)
    with pytest.raises(FormatError, match=r"Sensor frame 2 of 3 .* holds no data"):
        movie_header(tmp_path / "m.eer")
    write_eer(tmp_path / "m.eer", [b"", b""], SHAPE)
    with pytest.raises(FormatError, match="only empty"):
        movie_header(tmp_path / "m.eer")


def test_frames_of_two_kinds_are_refused(tmp_path):
    streams = [encode([(1, 1)], SHAPE), encode([(1, 1)], (24, 37))]
    write_eer(tmp_path / "m.eer", streams, [SHAPE, (24, 37)])
    with pytest.raises(FormatError, match="Sensor frame 2"):
        movie_header(tmp_path / "m.eer")
    streams = [encode([(1, 1)], SHAPE), encode([(1, 1)], SHAPE, skip_bits=8)]
    write_eer(tmp_path / "m.eer", streams, SHAPE, frame_compressions=[65001, 65000])
    with pytest.raises(FormatError, match="Sensor frame 2"):
        movie_header(tmp_path / "m.eer")
    tags = {65007: (3, [7]), 65008: (3, [3]), 65009: (3, [3])}.items()
    write_eer(tmp_path / "m.eer", streams[:1], SHAPE, compression=65002, tags=tags)
    with pytest.raises(FormatError, match="7 to 12 bits"):
        movie_header(tmp_path / "m.eer")


def test_a_plain_tiff_is_no_eer(tmp_path):
    tifffile.imwrite(tmp_path / "m.eer", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    with pytest.raises(FormatError, match=r"no electron events.*\.tif"):
        movie_header(tmp_path / "m.eer")
    with pytest.raises(InputError, match="does not exist"):
        movie_header(tmp_path / "absent.eer")


def test_a_damaged_frame_is_named(tmp_path):
    streams = [encode(electrons_of(seed), SHAPE) for seed in range(3)]
    streams[1] = b"\x7f" * 4000  # runs that lead far beyond the frame
    write_eer(tmp_path / "m.eer", streams, SHAPE)
    with open_movie(tmp_path / "m.eer", eer=EerRendering(frames_per_fraction=1)) as movie:
        movie.read(0, 1)
        with pytest.raises(FormatError, match="Sensor frame 2 of 3"):
            movie.read(0, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"fractions": 3, "frames_per_fraction": 2},
        {"fractions": 0},
        {"frames_per_fraction": -1},
        {"dose_per_fraction": 0.0},
        {"dose_per_fraction": float("nan")},
        {"dose": -1.0},
        {"upsampling": 3},
    ],
)
def test_renderings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        EerRendering(**options)


def test_a_fraction_of_more_frames_than_there_are_is_refused(tmp_path):
    movie_of(tmp_path / "m.eer", 3)
    with pytest.raises(InputError, match="has 3 sensor frames; a fraction was to be made of 4"):
        movie_header(tmp_path / "m.eer", eer=EerRendering(frames_per_fraction=4))


@pytest.mark.slow
def test_300_frames_of_4096_pixels_are_summed_in_15_seconds(tmp_path):
    shape = (4096, 4096)
    frames = [electrons_of(seed, shape, 0.03) for seed in range(3)]
    streams = [encode(f, shape) for f in frames] * 100
    write_eer(tmp_path / "m.eer", streams, shape)
    start = time.perf_counter()
    got, _ = read_movie(tmp_path / "m.eer", eer=EerRendering(fractions=10))
    assert time.perf_counter() - start < 15.0
    np.testing.assert_array_equal(got[7], 10 * sum(_image(f, shape) for f in frames))


def _image(electrons, shape):
    image = np.zeros(shape, dtype=int)
    np.add.at(image, (shape[0] - 1 - electrons[:, 0] // 4, electrons[:, 1] // 4), 1)
    return image


@pytest.mark.parametrize("run_bits", [7, 8])
def test_own_files_are_the_described_ones_and_read_back(tmp_path, run_bits):
    upwards = [SHAPE[0] * 4 - 1, 0] - electrons_of(3) * [1, -1]
    readouts = [upwards, np.zeros((0, 2), dtype=np.int64), upwards[::-1]]
    path = tmp_path / "own.eer"
    write_own_eer(
        path, readouts, SHAPE, pixel_size_angstrom=1.5, dose_per_pixel=6.75, exposure_s=2.0, run_bits=run_bits
    )
    header = movie_header(path, eer=EerRendering(frames_per_fraction=1))
    assert (header.frame_count, header.shape, header.pixel_size_angstrom) == (3, SHAPE, 1.5)
    assert header.dose_per_frame == pytest.approx(1.0)
    assert header.eer.exposure_s == 2.0
    for upsampling in (1, 4):
        frames, _ = read_movie(path, eer=EerRendering(frames_per_fraction=1, upsampling=upsampling))
        expected = np.zeros((3, SHAPE[0] * upsampling, SHAPE[1] * upsampling))
        for number, electrons in enumerate(readouts):
            expected[number, electrons[:, 0] * upsampling // 4, electrons[:, 1] * upsampling // 4] = 1
        np.testing.assert_array_equal(frames, expected)
    for electrons in (electrons_of(3), electrons_of(4, chance=0.0), electrons_of(5, chance=0.5)):
        assert encode_readout(electrons, SHAPE, run_bits=run_bits) == encode(electrons, SHAPE, skip_bits=run_bits)


@pytest.mark.parametrize(
    ("electrons", "changes", "words"),
    [
        ([(0, 0), (1, 3)], {}, "share a pixel"),
        ([(0, 4 * 36)], {}, "outside the sensor"),
        ([(-1, 0)], {}, "outside the sensor"),
        ([(1, 1)], {"run_bits": 9}, "expected 7 or 8"),
    ],
)
def test_electrons_that_no_sensor_counts_are_refused(electrons, changes, words):
    with pytest.raises(InputError, match=words):
        encode_readout(np.array(electrons), SHAPE, **changes)


def test_a_movie_without_readouts_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        write_own_eer(tmp_path / "m.eer", [], SHAPE, pixel_size_angstrom=1.0, dose_per_pixel=1.0)
    assert not list(tmp_path.iterdir())
