"""Samples of what other programs keep: tilt series in every geometry format, their particle lists, HDF and Amira files."""

from pathlib import Path
from typing import Any

import numpy as np
from samples_base import FRAMES, Sample, one_file, particles, text_file, volume


def geometry() -> list[Sample]:
    """Every geometry format, by its own writer and reader."""
    from exchange_phantom import phantom_series

    from eucentric.io.exchange.formats import GEOMETRY_FORMATS, read_geometry
    from eucentric.io.exchange.records import Given

    phantom = phantom_series(excluded=True, warp=True)
    given = Given(
        pixel_size_angstrom=2.5, image_shape=(80, 96), optics=phantom.series.optics, dose_per_tilt=3.0,
        volume_size_px=(96, 80, 64),
    )  # fmt: skip

    def sample(name: str) -> Sample:
        form = GEOMETRY_FORMATS[name]

        def make(folder: Path) -> Path:
            form.write(folder / "there", [phantom])
            return folder / "there"

        def read(place: Path) -> Any:
            form.recognises(place)  # which never raises
            return read_geometry(place, given, name)

        return Sample(name=f"series.{name}", make=make, read=read)

    return [sample(name) for name in GEOMETRY_FORMATS]


def lists() -> list[Sample]:
    from eucentric.io import (
        eman2_files,
        eman2_particles,
        emclarity_particles,
        imod_local,
        optimisation_sets,
        peet,
        portal_annotations,
        relion_pixel_particles,
        scipion_particles,
        scipion_sets,
        xmipp_metadata,
        xmipp_particles,
    )
    from eucentric.io.copick_project import CopickObject, read_copick_project, write_copick_config, write_copick_picks
    from eucentric.io.particles import read_particles, write_particles
    from eucentric.io.peet_lists import read_motive_csv, read_prm

    every = particles()

    def peet_made(folder: Path) -> Path:
        peet.write_peet(folder / "a.prm", every, FRAMES)
        return folder / "a.prm"

    def emclarity(folder: Path) -> Path:
        from eucentric.models import TomogramFrames

        part = every.in_tomogram("TS_1")
        named = type(part).build("TS_1", part.positions_angstrom, rotations=part.rotations)
        return emclarity_particles.write_emclarity_particles(folder, named, TomogramFrames(default=FRAMES.default), 4)[
            0
        ]

    def portal(folder: Path) -> Path:
        files = portal_annotations.write_portal_annotations(folder, every, FRAMES)
        return next(f for f in files if f.suffix == ".ndjson")

    def copick(folder: Path) -> Path:
        write_copick_picks(folder, every, FRAMES)
        objects = [CopickObject(name="1", label=1), CopickObject(name="2", label=2)]
        return write_copick_config(folder, "x", objects)

    def boxes(folder: Path) -> Path:
        place = folder / "info" / "TS_1_info.json"
        eman2_particles.write_eman2_particles(place, every.in_tomogram("TS_1"), FRAMES)
        return place

    def optimised(folder: Path) -> Path:
        return write_particles(folder / "set.star", every, "optimisation-set", FRAMES)[0]

    local = imod_local.ImodLocal(
        start_px=(20.0, 20.0), step_px=(30.0, 30.0), tilts_deg=np.zeros((2, 2, 3)), x_tilts_deg=np.zeros((2, 2, 3)),
        matrices=np.tile(np.eye(2), (2, 2, 3, 1, 1)), shifts_px=np.ones((2, 2, 3, 2)), pixel_size_angstrom=2.5,
    )  # fmt: skip
    return [
        Sample(name="peet.prm", make=peet_made, read=lambda p: (read_prm(p), peet.read_peet(p, FRAMES))),
        Sample(
            name="peet_motive.csv",
            make=lambda f: next(p for p in [peet_made(f)] and sorted(f.glob("*.csv"))),
            read=lambda p: read_motive_csv(p, 4),
        ),
        Sample(
            name="emclarity.csv", make=emclarity, read=lambda p: emclarity_particles.read_emclarity_particles(p, FRAMES)
        ),
        Sample(name="portal.ndjson", make=portal, read=lambda p: portal_annotations.read_portal_annotations(p, FRAMES)),
        Sample(name="copick_config.json", make=copick, read=lambda p: read_copick_project(p).particles(FRAMES)),
        Sample(name="eman2_info.json", make=boxes, read=lambda p: read_particles(p, FRAMES, "eman2")),
        one_file("eman2.json", lambda p: eman2_files.write_eman2_json(p, {"a": [1, 2.5]}), eman2_files.read_eman2_json),
        one_file("eman2.lst", lambda p: eman2_particles.write_eman2_particles(p, every, FRAMES), eman2_files.read_lst),
        one_file(
            "eman2_particles.lst",
            lambda p: eman2_particles.write_eman2_particles(p, every, FRAMES),
            lambda p: read_particles(p, FRAMES, "eman2"),
        ),
        one_file(
            "particles.xmd", lambda p: xmipp_particles.write_xmipp_particles(p, every, FRAMES),
            lambda p: (xmipp_metadata.read_xmd(p), xmipp_particles.read_xmipp_particles(p, FRAMES)),
        ),
        one_file(
            "scipion.sqlite", lambda p: scipion_particles.write_scipion_particles(p, every, FRAMES),
            lambda p: (scipion_sets.read_scipion_set(p), scipion_particles.read_scipion_particles(p, FRAMES)),
        ),
        Sample(
            name="optimisation_set.star",
            make=optimised,
            read=lambda p: (
                optimisation_sets.read_optimisation_set(p), optimisation_sets.read_optimisation_particles(p, FRAMES),
            ),
        ),
        one_file(
            "normalized.star", lambda p: write_particles(p, every, "warp-normalized", FRAMES),
            lambda p: relion_pixel_particles.read_warp_normalized_particles(p, FRAMES),
        ),
        one_file("a.local", lambda p: imod_local.write_local(p, local), lambda p: imod_local.read_local(p, 3)),
    ]  # fmt: skip


def volumes() -> list[Sample]:
    from eucentric.io import amira, hdf
    from eucentric.io.particles import read_particles
    from eucentric.io.tiff_volumes import read_tiff_volume, write_tiff_volume
    from eucentric.io.validate import validate_file
    from eucentric.io.volumes import open_volume, read_volume, write_volume

    labels = (volume() > 10).astype(np.uint8)
    line = np.arange(12.0).reshape(4, 3)
    surface = (
        "# HyperSurface 0.1 ASCII\nVertices 4\n0 0 0\n1 0 0\n0 1 0\n0 0 1\nPatches 1\n{\nTriangles 2\n1 2 3\n1 2 4\n}\n"
    )

    def whole(place: Path) -> Any:
        for slab in open_volume(place).true_slabs():
            np.array(slab)
        return read_volume(place)

    return [
        *(
            one_file(f"volume{e}", lambda p: write_volume(p, volume(), 4.0), whole)
            for e in (".mrc", ".em", ".zarr", ".tif", ".hdf", ".am")
        ),
        *(
            one_file(f"validated{e}", lambda p: write_volume(p, volume(), 4.0), validate_file)
            for e in (".mrc", ".em", ".tif", ".hdf", ".am", ".xyz.em")
        ),
        one_file("imagej.tif", lambda p: write_tiff_volume(p, labels, (4.0, 4.0, 4.0)), read_tiff_volume),
        one_file("bits.hdf", lambda p: hdf.write_hdf(p, volume(), voxel_size_angstrom=4.0, bits=8), hdf.read_hdf),
        one_file(
            "stack.hdf", lambda p: hdf.write_hdf(p, volume(), voxel_size_angstrom=4.0, as_images=True), hdf.validate_hdf
        ),
        one_file(
            "labels.am",
            lambda p: amira.write_amira_volume(p, labels, 4.0, materials=["a", "b"]),
            amira.read_amira_volume,
        ),
        one_file(
            "text.am", lambda p: amira.write_amira_volume(p, volume(), 4.0, ascii_text=True), amira.read_amira_volume
        ),
        one_file("graph.am", lambda p: amira.write_amira_graph(p, [line, line + 1]), amira.read_amira_graph),
        one_file("points.am", lambda p: amira.write_amira_landmarks(p, line), amira.read_amira_graph),
        text_file("a.surf", surface, amira.read_amira_surface),
        text_file(
            "plain.txt",
            "# x y z; origin: corner; unit: voxel; euler: none\n1.5 2.5 3.5\n4 5 6\n",
            lambda p: read_particles(p, FRAMES, "plain"),
        ),
    ]


def validated() -> list[Sample]:
    """The checks of text files, which read them in other ways than readers do."""
    from eucentric.io.particles import write_particles
    from eucentric.io.validate import validate_file

    every = particles()
    texts = {
        "validated.csv": "x,y\n1,2\n3,4\n", "validated.json": '{"a": [1, 2, {"b": 3}]}', "validated.tlt": "-3\n0\n3\n",
        "validated.xf": "1 0 0 1 3 4\n1 0 0 1 2 2\n", "validated.xml": "<TiltSeries><Angles>1\n2</Angles></TiltSeries>",
        "validated.unknown": "1 2 3 4\n", "validated.com": "$tilt -StandardInput\nTHICKNESS 3\n",
        "validated.tomostar": "data_\n\nloop_\n_wrpMovieName #1\n_wrpAngleTilt #2\n_wrpDose #3\na.tif 3.0 2.0\nb.tif 6.0 4.0\n",
    }  # fmt: skip
    return [
        *(text_file(name, text, validate_file) for name, text in texts.items()),
        one_file("validated.star", lambda p: write_particles(p, every, "relion5", FRAMES), validate_file),
        one_file("validated31.star", lambda p: write_particles(p, every, "relion31", FRAMES), validate_file),
    ]


def exchange() -> list[Sample]:
    return [*geometry(), *lists(), *volumes(), *validated()]
