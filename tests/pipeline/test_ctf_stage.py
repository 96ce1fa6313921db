"""What the CTF stage leaves for the report, and the section made of it."""

import numpy as np
import torch

from eucentric.ctf.params import CtfParams
from eucentric.io.mrc import write_mrc
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.optics import ctf_2d
from eucentric.pipeline.stages.ctf import EstimateCtf
from eucentric.pipeline.store import ItemStore
from eucentric.report.ctf_sections import ctf_section
from eucentric.report.params import ReportParams

PIXEL, SHAPE, OPTICS = 4.0, (320, 320), Optics()


def series_on_disk(root, angles=(-6.0, 0.0, 6.0), dark=()):
    """White noise through the CTF of 2 um; nothing but noise in the tilts that are dark."""
    generator = torch.Generator().manual_seed(2)
    transfer = ctf_2d(SHAPE, PIXEL, 20300.0, 19700.0, 20.0, OPTICS)
    tilts = []
    for i, angle in enumerate(angles):
        white = torch.randn(2, *SHAPE, generator=generator)
        rings = torch.fft.irfft2(torch.fft.rfft2(white[0]) * transfer, s=SHAPE)
        image = 100.0 + (0.0 if i in dark else rings) + 0.5 * white[1]
        write_mrc(root / f"{i}.mrc", image.numpy(), PIXEL, "float32", is_volume=False)
        pose = TiltPose(y_tilt_deg=angle, z_rot_deg=85.0)
        tilts.append(
            Tilt(
                nominal_tilt_deg=angle,
                acquisition=len(angles) - 1 - i,
                dose=3.0,
                pre_exposure=0.0,
                image=f"{i}.mrc",
                pose=pose,
            )
        )
    return TiltSeries(name="TS", pixel_size_angstrom=PIXEL, image_shape=SHAPE, tilts=tuple(tilts), optics=OPTICS)


def test_stage_keeps_what_the_report_shows(tmp_path):
    series = series_on_disk(tmp_path, dark=[2])
    params = CtfParams(inclination=False, tile_angstrom=512.0, high_resolution_angstrom=9.0)
    outcome = EstimateCtf().run(series, params, ItemStore(tmp_path, "ctf", "TS"), torch.device("cpu"))
    curves = dict(np.load(tmp_path / "ctf/curves/TS.npz"))
    pictures = dict(np.load(tmp_path / "ctf/pictures/TS.npz"))
    assert curves["acquisition"].tolist() == pictures["acquisition"].tolist() == [2, 1, 0]
    assert curves["without_rings"].tolist() == [False, False, True]
    assert pictures["measured"].dtype == np.uint8
    assert pictures["measured"].shape == pictures["fitted"].shape
    assert 8.0 < 1.0 / float(pictures["edge_frequency"]) < 12.0
    for kept in curves, pictures:
        assert all(np.asarray(value).dtype != object for value in kept.values())
    section = ctf_section(outcome.series, curves, pictures, ReportParams(dots_per_inch=40))
    assert [row[0] for row in section.rows] == ["6.0°"]
    assert "no Thon rings" in section.rows[0][2]
    assert len(section.strips[0].tiles) == 3
    assert "Thickness" in {p.title for p in section.pictures}
