"""Every file that other programs wrote is read: none is left without a reader."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from eucentric.errors import InputError
from eucentric.io import read_angle_table, read_angles, read_imod_model, read_mdoc, read_star
from eucentric.io.ctf_estimates import read_ctf_estimates
from eucentric.io.exchange.formats import read_geometry
from eucentric.io.exchange.records import Given
from eucentric.io.imod import read_tilt_command
from eucentric.io.mtf import read_mtf
from eucentric.io.particle_columns import read_tomogram_numbers
from eucentric.io.particles import read_particles
from eucentric.io.volumes import open_volume
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

GIVEN = Given(pixel_size_angstrom=1.35, image_shape=(4000, 4000))
GRID = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(400, 400, 200)))


def geometry(path: Path) -> int:
    try:
        found = read_geometry(path, Given(pixel_size_angstrom=1.35))[1]
    except InputError as error:
        if "--image-size" not in str(error):
            raise
        found = read_geometry(path, GIVEN)[1]  # of files that do not tell the size of the images
    return len(found[0].series.tilts)


def particles(path: Path) -> int:
    return len(read_particles(path, GRID))


READERS = {
    "aretomo/test.aln": geometry,
    "aretomo/test_CTF.txt": lambda p: len(read_ctf_estimates(p).estimates),
    "aretomo/TiltSeries_Metrics.csv": lambda p: len(p.read_text().splitlines()[1:]),
    "dm3/*.dm3": lambda p: open_volume(p).info.shape[1],
    "dynamo/*.tbl": particles,
    "dynamo/*.doc": lambda p: len(read_tomogram_numbers(p)),
    "imod/TS_001.*": lambda p: geometry(p.parent / "TS_001.xf"),
    "imod/convert_pair/imod_1/*": lambda p: geometry(p.parent / "tilt_1.xf"),
    "imod/tilt.com": lambda p: 1 + read_tilt_command(p).binning,
    "imod/newst.com": lambda p: len(p.read_text()),
    "imod/*.rawtlt": lambda p: len(read_angle_table(p)),
    "imod/test.xf": lambda p: len(p.read_text().splitlines()),
    "imod/test_defocus.txt": lambda p: len(read_angles(p)),
    "imod/*.defocus": lambda p: len(read_ctf_estimates(p).estimates),
    "imod/test_dose.txt": lambda p: len(read_angles(p)),
    "imod_models/*.mod": lambda p: len(read_imod_model(p).objects),
    "mdoc/*.mdoc": lambda p: len(read_mdoc(p).sections),
    "mdoc/nav.nav": lambda p: len(p.read_text()),
    "mrc/*": lambda p: open_volume(p).info.shape[0],
    "mtf/*.star": lambda p: len(read_mtf(p)[0]),
    "relion/relion4_project/tilt_series_metadata/tilt_series.star": geometry,
    "relion/relion4_project/*/tilt_series/*.star": lambda p: len(next(iter(read_star(p).values()))),
    "relion/relion5_particles/clean/warp2_matching_tomograms.star": geometry,
    "relion/relion5_particles/*_tomograms.star": lambda p: len(read_star(p)["global"]),
    "relion/relion5_particles/clean/*_particles_*.star": particles,
    "relion/relion5_particles/*optimisation_set.star": lambda p: len(read_star(p)),
    "relion/relion5_particles/clean/*": lambda p: len(read_star(p)),
    "relion/relion5_project/*": lambda p: len(read_star(p)),
    "relion/*.star": particles,
    "session_TS_018/018.mdoc": lambda p: len(read_mdoc(p).sections),
    "session_TS_018/018.xml": geometry,
    "session_TS_018/018.tlt": lambda p: len(read_angles(p)),
    "session_TS_018/018_corrected_dose.txt": lambda p: len(read_angles(p)),
    "session_TS_018/018_ctffind4.txt": lambda p: len(read_ctf_estimates(p).estimates),
    "session_TS_018/018_gctf.star": lambda p: len(read_ctf_estimates(p).estimates),
    "session_TS_018/tilt.com": lambda p: 1 + read_tilt_command(p).binning,
    "warp/*.xml": geometry,
}


def test_every_file_is_read(shared_data):
    base = shared_data / "formats"
    files = sorted(p for p in base.rglob("*") if p.is_file())
    assert len(files) > 60
    unread, empty = [], []
    for path in files:
        name = path.relative_to(base).as_posix()
        read = next((r for pattern, r in READERS.items() if fnmatch(name, pattern)), None)
        if read is None:
            unread.append(name)
        elif not read(path):
            empty.append(name)
    assert unread == []
    assert empty == []


def test_a_table_of_one_series_without_the_others_says_what_is_missing(shared_data):
    table = shared_data / "formats" / "relion" / "relion5_project" / "Tomograms" / "job009" / "tomograms.star"
    with pytest.raises(InputError, match="was found neither"):
        read_geometry(table, GIVEN)
