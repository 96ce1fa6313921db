"""A set of tilt series comes back from its STAR tables exactly, whatever is known of it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eucentric.io import read_star, read_star_text, read_tilt_series_set, write_star, write_tilt_series_set
from eucentric.models import (
    CtfFit,
    ExcludedTilt,
    FrameShifts,
    MovieQuality,
    Optics,
    Specimen,
    Tilt,
    TiltPose,
    TiltSeries,
    Tomogram,
)

numbers = st.floats(-1e5, 1e5, allow_nan=False).map(lambda v: v + 0.0)
positive = st.floats(1e-3, 1e5)
maybe_nan = st.one_of(st.just(float("nan")), positive)
paths = st.sampled_from(["a/b_001_3.0.tif", "../frames/x y.tif", "nan_1.mrc", "12@stack.mrc", "odd#1.tif", "0017"])


@st.composite
def motions(draw, frames):
    if draw(st.booleans()):
        return None
    values = draw(st.lists(st.tuples(numbers, numbers, maybe_nan), min_size=frames, max_size=frames))
    table = np.array(values, dtype=np.float64)
    return FrameShifts(shifts_angstrom=table[:, :2].copy(), sigma_angstrom=table[:, 2].copy())


poses = st.builds(
    TiltPose,
    y_tilt_deg=numbers,
    z_rot_deg=numbers,
    x_tilt_deg=numbers,
    x_shift_angstrom=numbers,
    y_shift_angstrom=numbers,
    sigma_angstrom=maybe_nan,
    magnification=st.just(1.0) | st.floats(0.5, 2.0),
)
fits = st.builds(
    CtfFit,
    defocus_u_angstrom=numbers,
    defocus_v_angstrom=numbers,
    astigmatism_angle_deg=numbers,
    phase_shift_deg=numbers,
    defocus_sigma_angstrom=maybe_nan,
    score=maybe_nan,
    max_resolution_angstrom=maybe_nan,
)


@st.composite
def tilts(draw, acquisition):
    frames = draw(st.integers(1, 3))
    return Tilt(
        nominal_tilt_deg=draw(st.floats(-90, 90)) + 0.0,
        acquisition=acquisition,
        dose=draw(positive),
        pre_exposure=draw(positive),
        movie=draw(st.none() | paths),
        frames=draw(st.none() | st.tuples(st.integers(0, 40), st.integers(41, 90))),
        frame_count=frames,
        nominal_axis_deg=draw(st.none() | numbers),
        # Stored in micrometres with the other sign: whole A come back to the last digit but one.
        nominal_defocus_angstrom=draw(st.none() | st.integers(-90000, 90000).map(float)),
        image=draw(st.none() | paths),
        image_even=draw(st.none() | paths),
        image_odd=draw(st.none() | paths),
        motion=draw(motions(frames)),
        quality=draw(
            st.none()
            | st.builds(
                MovieQuality,
                sigma_angstrom=positive,
                residual_angstrom=positive,
                blur_angstrom=positive,
                defect_fraction=positive,
                mean_counts=positive,
            )
        ),
        pose=draw(st.none() | poses),
        ctf=draw(st.none() | fits),
        signal_scale=draw(st.just(1.0) | st.floats(0.0, 3.0)),
        b_factor_angstrom2=draw(st.just(0.0) | numbers),
    )


@st.composite
def series(draw, name):
    kept, gone = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    order = draw(st.permutations(range(kept + gone)))
    every = [draw(tilts(acquisition)) for acquisition in order]
    reasons = st.sampled_from(["dark", "taken again: the user's choice, 50%", "a # sign and  two blanks"])
    pixel = draw(positive)
    sizes = st.tuples(*[st.integers(1, 5000)] * 3)
    return TiltSeries.sorted(
        every[:kept],
        name=name,
        pixel_size_angstrom=pixel,
        image_shape=(draw(st.integers(1, 9000)), draw(st.integers(1, 9000))),
        excluded=tuple(ExcludedTilt(tilt=t, reason=draw(reasons)) for t in every[kept:]),
        original_pixel_size_angstrom=draw(st.none() | st.just(pixel / 2)),
        optics=draw(
            st.none()
            | st.builds(
                Optics,
                voltage_kv=st.floats(60, 1000),
                amplitude_contrast=st.floats(0, 0.5),
                beam_tilt_mrad=st.just((0.0, 0.0)) | st.tuples(numbers, numbers),
                trefoil_rad_angstrom3=st.just((0.0, 0.0)) | st.tuples(numbers, numbers),
            )
        ),
        hand=draw(st.sampled_from([-1.0, 1.0])),
        volume_size_px=draw(st.none() | sizes),
        thickness_angstrom=draw(st.none() | positive),
        tomogram=draw(
            st.none()
            | st.builds(
                Tomogram,
                path=st.just("reconstruct/tomograms/x.mrc"),
                voxel_size_angstrom=positive,
                shape_zyx=sizes,
                half1=st.none() | st.just("h1.mrc"),
                half2=st.none() | st.just("h2.mrc"),
            )
        ),
        warp=draw(st.none() | st.just("align/warps/x.npz")),
        specimen=draw(
            st.none() | st.builds(Specimen, **{field.name: numbers for field in dataclasses.fields(Specimen)})
        ),
    )


sets = st.lists(st.sampled_from(["TS_01", "001", "1e5", "a-b.c"]), unique=True, min_size=1, max_size=3).flatmap(
    lambda names: st.tuples(*[series(name) for name in names])
)


def assert_same(a, b, where=""):
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b), where
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(a, str):
        assert b == a.translate({ord("'"): "’"}), where
    elif where.endswith("nominal_defocus_angstrom") and a is not None:
        assert b == pytest.approx(a, rel=1e-15), where
    else:
        assert a == b or (a != a and b != b), f"{where}: {a!r} {b!r}"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wanted=sets)
def test_a_set_comes_back_exactly(tmp_path_factory, wanted):
    root = tmp_path_factory.mktemp("project")
    table = root / "ctf" / "tilt_series.star"
    write_tilt_series_set(table, wanted, root)
    got = read_tilt_series_set(table, root)
    assert len(got) == len(wanted)
    for a, b in zip(wanted, got, strict=True):
        assert_same(a, b, a.name)


@pytest.mark.parametrize("magnification", [1.0, 1.002])
def test_magnification_and_warp_have_columns_only_where_they_are_known(tmp_path, magnification):
    poses = [TiltPose(y_tilt_deg=y, z_rot_deg=85.0, magnification=m) for y, m in ((0.0, 1.0), (3.0, magnification))]
    kept = [
        Tilt(nominal_tilt_deg=p.y_tilt_deg, acquisition=i, dose=3.0, pre_exposure=3.0 * i, pose=p)
        for i, p in enumerate(poses)
    ]
    file = None if magnification == 1.0 else "align/warps/A.npz"
    one = TiltSeries.sorted(kept, name="A", pixel_size_angstrom=2.0, image_shape=(30, 40), warp=file)
    write_tilt_series_set(tmp_path / "align" / "tilt_series.star", [one], tmp_path)
    table = read_star_text(tmp_path / "align" / "tilt_series" / "A.star")["A"]
    assert ("eucMagnification" in table) == (magnification != 1.0)
    whole = read_star_text(tmp_path / "align" / "tilt_series.star")["global"]
    assert whole.get("eucWarpFile") == (None if file is None else [file])
    (got,) = read_tilt_series_set(tmp_path / "align" / "tilt_series.star", tmp_path)
    assert [p.magnification for p in got.poses] == [1.0, magnification]
    assert got.warp == file


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12
).filter(lambda t: t.strip() == t and t.split() != [] and not set(t) & set("\"'") and t.isprintable())


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(texts, st.floats(allow_nan=False, allow_infinity=False), st.integers()), max_size=5))
def test_any_table_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("star") / "a.star"
    columns = {"rlnName": [r[0] for r in rows], "rlnValue": [r[1] for r in rows], "rlnCount": [r[2] for r in rows]}
    write_star(path, {"things": columns, "more": {"rlnOne": [1]}})
    got = read_star_text(path)["things"]
    missing = {"None", "none", "<NA>", "nan", "NaN"}
    assert got["rlnName"] == [None if t in missing else t for t in columns["rlnName"]]
    assert [float(v or "nan") for v in got["rlnValue"]] == columns["rlnValue"]
    assert [int(v or 0) for v in got["rlnCount"]] == columns["rlnCount"]
    assert read_star(path)["more"]["rlnOne"].tolist() == [1]
