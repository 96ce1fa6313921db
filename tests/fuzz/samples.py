"""A small whole file for every reader, made by the project's own writer where it has one."""
# ruff: noqa: E501 - texts of files stand in one line, as they are long

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from samples_base import FRAMES, SHAPE, Sample, one_file, particles, text_file, volume
from samples_exchange import exchange


def _whole(found: Any) -> Any:
    """What was read, with voxels that are still on disk."""
    array = found[0] if isinstance(found, tuple) else found
    return (
        np.array(array).sum(dtype=np.float64) if isinstance(array, np.ndarray) and array.dtype.kind in "iu" else found
    )


def _of_usual_size(place: Path) -> Any:
    """Labels, but where the metadata say that they are huge: chunks of zeros need not be there, so that it may be true."""
    from eucentric.io.ome_zarr import read_ome_zarr, read_ome_zarr_header

    large = np.prod(read_ome_zarr_header(place).shape, dtype=float) > 1e5
    return None if large else read_ome_zarr(place)


_ITEM = {
    "Color": "2", "StageXYZ": "5 -3 44.5", "NumPts": "5", "Regis": "1", "Type": "2", "Note": "a map", "MapFile": "m.mrc", "MapID": "4711",
    "MapSection": "0", "MapScaleMat": "10 0 0 -10", "MapWidthHeight": "200 100", "PtsX": "-5 15 15 -5 -5", "PtsY": "2 2 -8 -8 2",
}  # fmt: skip
_NAVIGATOR = "\n".join(["AdocVersion = 2.00", "", "[Item = 1-A]", *(f"{k} = {v}" for k, v in _ITEM.items()), ""])
_NAVIGATOR_XML = (
    '<?xml version="1.0" encoding="utf-8"?>\n<navigator>\n<PreData><AdocVersion>2.00</AdocVersion></PreData>\n<Item name="1-A">\n'
    + "\n".join(f"<{k}>{v}</{k}>" for k, v in _ITEM.items())
    + "\n</Item>\n</navigator>\n"
)
_MONTAGE = "ImageSize = 100 80\nMontage = 1\n" + "".join(
    f"[ZValue = {i}]\nPieceCoordinates = {90 * (i // 2)} {70 * (i % 2)} 0\nStagePosition = {9 * (i // 2)} {7 * (i % 2)}\nStageZ = 1.5\n"
    for i in range(4)
)


def _map_of_navigator(place: Path) -> Any:
    from eucentric.io.navigator import read_navigator

    return [
        (
            item.kind,
            item.points_um,
            item.registration,
            item.is_to_acquire,
            item.map_section,
            item.map_frame().corners_um,
        )
        for item in read_navigator(place).items
    ]


def volumes() -> list[Sample]:
    from eucentric.io import em, mrc, mrc_checks, ome_zarr, ome_zarr_labels, ome_zarr_writer, tiff
    from eucentric.io.movies import open_movie

    def packed(place: Path) -> None:
        mrc.write_mrc(place.with_name("a.mrc"), volume(), 2.0)
        data = place.with_name("a.mrc").read_bytes()
        place.with_name("a.mrc").unlink()
        place.write_bytes(gzip.compress(data) if place.suffix == ".gz" else bz2.compress(data))

    def movie(place: Path) -> Any:
        with open_movie(place) as found:
            return [frames.shape for _, frames in found.blocks(2)]

    def labels(place: Path) -> None:
        ome_zarr_writer.write_ome_zarr(place.parent.parent, volume(), 2.0)
        ome_zarr_labels.write_ome_zarr_labels(place, np.ones(SHAPE, np.uint8), 2.0)

    def labels_made(folder: Path) -> Path:
        labels(folder / "a.zarr" / "labels" / "b")
        return folder / "a.zarr"

    return [
        one_file("float.mrc", lambda p: mrc.write_mrc(p, volume(), 2.0), lambda p: _whole(mrc.read_mrc(p))),
        one_file("bytes.mrc", lambda p: mrc.write_mrc(p, volume(), 2.0, "int8"), lambda p: _whole(mrc.read_mrc(p))),
        one_file("half.mrc", lambda p: mrc.write_mrc(p, volume() * 1e9, 2.0, "float16"), lambda p: _whole(mrc.read_mrc(p))),
        one_file("checked.mrc", lambda p: mrc.write_mrc(p, volume(), 2.0), mrc_checks.validate_mrc),
        one_file("a.mrc.gz", packed, lambda p: _whole(mrc.read_mrc(p))),
        one_file("a.mrc.bz2", packed, lambda p: _whole(mrc.read_mrc(p))),
        one_file("movie.mrcs", lambda p: mrc.write_mrc(p, volume(), 2.0, is_volume=False), movie),
        one_file("movie.mrc.gz", packed, movie),
        one_file("a.em", lambda p: em.write_em(p, volume()), lambda p: _whole(em.read_em(p))),
        one_file("checked.em", lambda p: em.write_em(p, volume()), em.validate_em),
        one_file("zlib.tif", lambda p: tiff.write_tiff(p, volume()), tiff.read_tiff),
        one_file("plain.tif", lambda p: tiff.write_tiff(p, volume().astype("u1"), compression=None), tiff.read_tiff),
        one_file("big.tif", lambda p: tiff.write_tiff(p, volume().astype("i2"), bigtiff=True), tiff.read_tiff),
        one_file("movie.tif", lambda p: tiff.write_tiff(p, volume().astype("u1")), movie),
        one_file("a.zarr", lambda p: ome_zarr_writer.write_ome_zarr(p, volume(), 2.0), ome_zarr.read_ome_zarr),
        one_file("checked.zarr", lambda p: ome_zarr_writer.write_ome_zarr(p, volume(), 2.0), ome_zarr.validate_ome_zarr),
        Sample(
            name="labels.zarr",
            make=labels_made,
            read=lambda p: (
                ome_zarr_labels.label_names_of_image(p),
                ome_zarr_labels.is_label_image(p / "labels" / "b"),
                _of_usual_size(p / "labels" / "b"),
            ),
        ),
    ]  # fmt: skip


def movies() -> list[Sample]:
    from eucentric.io import eer, eer_writer
    from eucentric.io.defects import read_defects, write_defects
    from eucentric.io.fluorescence import read_light_image
    from eucentric.io.movies import open_movie, read_gain
    from eucentric.io.mrc import write_mrc
    from eucentric.io.tiff import write_tiff

    rng = np.random.default_rng(2)

    def electrons(place: Path) -> None:
        shape = (16, 12)
        readouts = [np.unique(rng.integers(0, [64, 48], (20, 2)) // 4 * 4, axis=0) for _ in range(4)]
        eer_writer.write_eer(place, readouts, shape, pixel_size_angstrom=1.5, dose_per_pixel=5.0)

    def fractions(place: Path) -> Any:
        with open_movie(place, eer=eer.EerRendering(fractions=2)) as found:
            return [frames.shape for _, frames in found.blocks(1)]

    def light(place: Path) -> None:
        import tifffile

        tifffile.imwrite(
            place, np.ones((2, 3, 8, 9), np.uint16), imagej=True, resolution=(10.0, 10.0),
            metadata={"axes": "ZCYX", "unit": "um", "spacing": 0.5},
        )  # fmt: skip

    def light_ome(place: Path) -> None:
        import tifffile

        tifffile.imwrite(place, np.ones((2, 8, 9), np.uint16), ome=True, metadata={"axes": "CYX", "PhysicalSizeX": 0.1})

    serialem = "CameraSizeX 40\nCameraSizeY 30\nRotationAndFlip 0\nBadColumns 3 7\nPartialBadColumn 5 1 2 9\nBadPixels 4 6 8 9\n"
    mask = np.zeros((30, 40), bool)
    mask[:, 4], mask[6, 7:12] = True, True
    return [
        one_file("a.eer", electrons, fractions),
        one_file("gain.mrc", lambda p: write_mrc(p, np.ones((8, 9)), 1.0), read_gain),
        one_file("gain.tif", lambda p: write_tiff(p, np.ones((8, 9), np.float32)), read_gain),
        one_file("defects.txt", lambda p: write_defects(p, mask), lambda p: read_defects(p, (30, 40))),
        text_file("defects_serialem.txt", serialem, lambda p: read_defects(p, (30, 40))),
        one_file("light.tif", light, read_light_image),
        one_file("light.ome.tif", light_ome, read_light_image),
    ]


def tilt_series() -> list[Sample]:
    from exchange_phantom import phantom_series

    from eucentric.acquisition import GoniometerModel
    from eucentric.geometry import VolumeWarp
    from eucentric.io import (
        aretomo,
        ctf_estimates,
        frame_tables,
        imod,
        mdoc,
        montage,
        pytom,
        tilt_series,
        truth,
        warp_xml,
        warps,
    )
    from eucentric.io.focus_tables import read_focus_table
    from eucentric.io.given_ctf import GivenCtf, read_given_ctf, write_given_ctf
    from eucentric.io.goniometer_files import (
        read_goniometer,
        read_prediction_state,
        write_goniometer,
        write_prediction_state,
    )
    from eucentric.io.imod import read_tilt_command
    from eucentric.io.plan_files import read_plan, write_plan
    from eucentric.models import TiltScheme
    from eucentric.models.acquisition_plan import AcquisitionPlan

    phantom = phantom_series(excluded=True, warp=True)
    series = phantom.series
    displaced = np.random.default_rng(3).normal(size=(3, 1, 2, 2, 3))
    bent = VolumeWarp.build(displaced, [0.0, 30.0, 100.0], (500.0, 4000.0, 4000.0))
    fits = {t.acquisition: t.ctf for t in series.tilts if t.ctf is not None}

    def written_set(folder: Path) -> Path:
        tilt_series.write_tilt_series_set(folder / "align" / "tilt_series.star", [series], folder)
        return folder / "align" / "tilt_series.star"

    sections = tuple(
        mdoc.MdocSection(
            label=str(i), tilt_angle_deg=-6.0 + 3 * i, exposure_dose=3.0, prior_record_dose=3.0 * i,
            pixel_spacing_angstrom=1.5, rotation_angle_deg=175.2, defocus_um=-4.1, image_shift_um=(0.1, -0.2),
            sub_frame_path=f"X:\\frames\\TS_1_{i:03d}.tif", frame_count=8, frame_doses=((0.375, 8),),
            date_time=mdoc.parse_date_time("06-Jun-23  23:19:47"), extra={"Binning": "1"},
        )
        for i in range(4)
    )  # fmt: skip
    whole = mdoc.Mdoc(
        sections=sections, titles=("Tilt axis angle = 85.2, binning = 1  spot = 8  camera = 1",), voltage_kv=300.0,
        pixel_spacing_angstrom=1.5, image_file="TS_1.mrc", image_size=(96, 80),
    )  # fmt: skip
    aln = "# AreTomo Alignment / Priims bprmMn\n# RawSize = 96 80 5\n# NumPatches = 2\n# DarkFrame = 4 4 12.00\n# AlphaOffset = 1.5\n# Thickness = 40\n# SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT\n"
    aln += "".join(f"{i:5d} 84.3 1.0 {i * 1.5:.3f} {-i * 0.5:.3f} 1.0 1.0 1.0 0.0 {3 * i - 6:.2f}\n" for i in range(4))
    aln += "# Local Alignment\n" + "".join(
        f"{i} {j} {10 * j - 5}.0 4.0 0.5 -0.25 1.0\n" for i in range(4) for j in range(2)
    )
    ctffind = "# Output from CTFFind version 4.1.14, run on 2020-01-01\n# Input file: TS_1.mrc ; Number of micrographs: 3\n# Pixel size: 1.5 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; amplitude contrast: 0.07\n# Columns\n"
    ctffind += "".join(f"{i}.000000 {31000 + i}.5 30000.25 31.5 0.000000 0.21 6.5\n" for i in range(1, 4))
    defocus = "1 0 0. 0. 0 3\n" + "".join(
        f"{i} {i} {3 * i - 6:.2f} {3 * i - 6:.2f} {3100 + i:.1f} {3000 + i:.1f} 31.5\n" for i in range(1, 5)
    )
    grid = "".join(
        f'<Node X="{x}" Y="{y}" Z="{z}" Value="{x + y - z}" />' for z in range(3) for y in range(2) for x in range(2)
    )
    warp = (
        '<?xml version="1.0" encoding="utf-8"?>\n<TiltSeries AreAnglesInverted="False" PlaneNormal="0, 0, 0" CTFResolutionEstimate="6.5">\n'
        "<Angles>-3\n0\n3</Angles>\n<Dose>0\n3\n6</Dose>\n<UseTilt>True\nTrue\nFalse</UseTilt>\n<AxisAngle>84\n84\n84</AxisAngle>\n"
        "<AxisOffsetX>1.5\n0\n-2</AxisOffsetX>\n<AxisOffsetY>0\n0.25\n1</AxisOffsetY>\n<MoviePath>a_1.tif\na_2.tif\na_3.tif</MoviePath>\n"
        f'<GridMovementX Width="2" Height="2" Depth="3">{grid}</GridMovementX>\n<GridMovementY Width="2" Height="2" Depth="3">{grid}</GridMovementY>\n'
        '<GridCTF Width="1" Height="1" Depth="3"><Node X="0" Y="0" Z="0" Value="3.1" /><Node X="0" Y="0" Z="1" Value="3.2" /><Node X="0" Y="0" Z="2" Value="3.3" /></GridCTF>\n'
        '<CTF><Param Name="PixelSize" Value="1.5" /><Param Name="Defocus" Value="3.1" /><Param Name="DefocusDelta" Value="0.1" />'
        '<Param Name="DefocusAngle" Value="31" /><Param Name="Voltage" Value="300" /><Param Name="Cs" Value="2.7" /><Param Name="Amplitude" Value="0.07" /></CTF>\n'
        '<OptionsCTF><Param Name="Dimensions" Value="144, 120, 60" /></OptionsCTF>\n</TiltSeries>\n'
    )
    matrices = np.tile([[0.99, -0.1], [0.1, 0.99]], (5, 1, 1))
    command = "$setenv IMOD_OUTPUT_FORMAT MRC\n$tilt -StandardInput\nInputProjections TS_1_ali.mrc\nIMAGEBINNED 2\nTILTFILE TS_1.tlt\nXTILTFILE TS_1.xtilt\nTHICKNESS 400\nFULLIMAGE 96 80\nOFFSET 1.5\nSHIFT 0.0 3.5\nXAXISTILT 0.7\nEXCLUDELIST 1,3-4\n$if (-e ./savework) ./savework\n"
    projections = (
        "<ProjectionList>\n"
        + "".join(
            f'<Projection Filename="p_{i}.em" TiltAngle="{3 * i - 6}" OffsetX="0.5" OffsetY="-1" AlignmentAngle="0.0" />\n'
            for i in range(4)
        )
        + "</ProjectionList>\n"
    )

    def listed(folder: Path) -> Path:
        for i in range(4):
            (folder / f"p_{i}.em").write_bytes(b"")
        (folder / "a.xml").write_text(projections)
        return folder / "a.xml"

    acquisitions = [t.acquisition for t in series.tilts]
    assert phantom.warp is not None
    field = phantom.warp
    return [
        Sample(name="tilt_series.star", make=written_set, read=lambda p: tilt_series.read_tilt_series_set(p, p.parent.parent)),
        one_file("a.mdoc", lambda p: mdoc.write_mdoc(p, whole), mdoc.read_mdoc),
        one_file("checked.mdoc", lambda p: mdoc.write_mdoc(p, whole), mdoc.validate_mdoc),
        one_file("frames.mdoc", lambda p: mdoc.write_mdoc(p, whole), lambda p: frame_tables.mdoc_frame_series(mdoc.read_mdoc(p), p) if frame_tables.is_frame_series(mdoc.read_mdoc(p)) else None),
        text_file("grid.nav", _NAVIGATOR, _map_of_navigator),
        text_file("grid_xml.nav", _NAVIGATOR_XML, _map_of_navigator),
        text_file("montage.mdoc", _MONTAGE, montage.read_montage),
        text_file("a.aln", aln, aretomo.read_aretomo),
        text_file("ctffind.txt", ctffind, ctf_estimates.read_ctf_estimates),
        text_file("a.defocus", defocus, ctf_estimates.read_ctf_estimates),
        text_file("ctf.xml", warp, ctf_estimates.read_ctf_estimates),
        text_file("warp.xml", warp, warp_xml.read_warp_series),
        Sample(name="ctf.star", make=written_set, read=lambda p: ctf_estimates.read_ctf_estimates(p, "TS_1", project_root=p.parent.parent)),
        one_file("given_ctf.star", lambda p: write_given_ctf(p, GivenCtf(source="x", place="image", fits=fits, thickness_angstrom=900.0)), read_given_ctf),
        one_file("a.tlt", lambda p: imod.write_angles(p, np.arange(-6.0, 7, 3)), imod.read_angles),
        text_file("table.tlt", "1 -6.0\n2 -3.0\n3 0\n", imod.read_angle_table),
        one_file("a.xf", lambda p: imod.write_transforms(p, matrices, np.ones((5, 2))), imod.read_transforms),
        text_file("tilt.com", command, read_tilt_command),
        Sample(name="projections.xml", make=listed, read=pytom.read_projection_list),
        one_file("warp.npz", lambda p: warps.write_image_warp(p, field, acquisitions), lambda p: warps.read_image_warp(p, acquisitions)),
        one_file("deformation.npz", lambda p: warps.write_image_warp(p, field, acquisitions, volume=bent), lambda p: warps.read_deformation(p, series)),
        one_file("folded.npz", lambda p: warps.write_image_warp(p, field, acquisitions, volume=bent), lambda p: warps.read_folded_warp(p, series)),
        one_file("bent.npz", lambda p: warps.write_image_warp(p, field, acquisitions, volume=bent), warps.read_volume_warp),
        text_file("focus.txt", "acquisition position defocus\n1 -3000 31000\n2 3000 30500\n", read_focus_table),
        text_file("focus.star", "data_focus\n\nloop_\n_eucAcquisitionIndex #1\n_eucFocusPositionAngst #2\n_rlnDefocusU #3\n_rlnDefocusV #4\n0 -3000 31000 30000\n1 3000 31000 30000\n", read_focus_table),
        one_file("goniometer.json", lambda p: write_goniometer(p, a_goniometer().to_dict()), lambda p: GoniometerModel.from_dict(read_goniometer(p))),
        one_file("prediction.json", lambda p: write_prediction_state(p, {"settings": {}, "lines": ["target A 0 0"]}), read_prediction_state),
        one_file("plan.toml", lambda p: write_plan(p, AcquisitionPlan(scheme=TiltScheme(start_dose=9.0))), read_plan),
        text_file("frames.txt", "# tilt first last dose\n-3.0 1 8 3.0\n0.0 9 16 3.0\n3.0 17 24 3.0\n", frame_tables.read_frame_table),
        text_file("saved.txt", "1\n2\n5\n6\n", frame_tables.read_saved_frames),
        one_file("truth.json", lambda p: truth.write_truth(p, a_truth()), truth.read_truth),
    ]  # fmt: skip


def a_goniometer() -> Any:
    from eucentric.acquisition import learn_goniometer
    from eucentric.models import StageTrack

    tilts = np.arange(-30.0, 31.0, 3.0)
    shape = np.random.default_rng(5).normal(scale=300.0, size=(len(tilts), 3))
    known = np.full(len(tilts), 30.0)
    track = StageTrack(
        name="TS_1", tilts_deg=tilts, position_angstrom=shape[:, :2], height_angstrom=shape[:, 2], position_sigma_angstrom=known,
        height_sigma_angstrom=known, times_s=30.0 * np.arange(len(tilts)),
    )  # fmt: skip
    return learn_goniometer([track])


def a_truth() -> Any:
    from eucentric.io.truth import TiltTruth
    from eucentric.models import Optics

    rng, tilts, frames, count = np.random.default_rng(0), 3, 2, 3
    return TiltTruth(
        name="TS_9", pixel_size_angstrom=3.5, image_shape=(64, 48),
        optics=Optics(voltage_kv=200.0, spherical_aberration_mm=2.0, amplitude_contrast=0.1),
        nominal_tilts_deg=np.linspace(-30, 30, tilts), true_tilts_deg=np.linspace(-30, 30, tilts), tilt_axis_deg=84.3,
        nominal_axis_deg=85.0, matrices=rng.normal(size=(tilts, 3, 3)), shifts_angstrom=rng.normal(size=(tilts, 2)),
        acquisition=rng.permutation(tilts), movie_names=tuple(f"m_{i}.tif" for i in range(tilts)), dose=2.5,
        defocus_u_angstrom=rng.normal(3e4, 10, tilts), defocus_v_angstrom=rng.normal(3e4, 10, tilts),
        astigmatism_angle_deg=30.0, hand=-1.0, motion_angstrom=rng.normal(size=(tilts, frames, 2)),
        thickness_angstrom=1200.0, deformation_angstrom=8.0, deformation_coefficients=rng.normal(size=(3, 6)),
        bad_tilts=(0,), positions=rng.normal(size=(count, 3)), rotations=rng.normal(size=(count, 3, 3)),
        kinds=np.arange(count), beads=rng.normal(size=(2, 3)), vesicle_centres=rng.normal(size=(1, 3)),
        vesicle_radii_angstrom=np.array([200.0]), magnification=np.ones(tilts), phase_shift_deg=np.zeros(tilts),
        doses=np.array([15.0, 3.0, 2.5]), settings={},
    )  # fmt: skip


def lists() -> list[Sample]:
    from eucentric.io import artiax, atoms, curves, landmark_files, meshes, mtf, particle_columns, star, tracks
    from eucentric.io.imod_models import read_imod_model, write_imod_model
    from eucentric.io.imod_particles import read_model_contours
    from eucentric.io.particles import PARTICLE_FORMATS, read_particles, read_tomogram_frames, write_particles
    from eucentric.models.tracks import Tracks

    every = particles()
    made = Tracks.build([0, 0, 1, 1, 2], [0, 1, 0, 2, 1], np.arange(10.0).reshape(5, 2))
    contours = [[np.arange(9.0).reshape(3, 3)], [np.ones((2, 3)), np.ones((1, 3))]]
    tetrahedron = (
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]),
        np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]),
    )

    elsewhere = ("emclarity", "warp-species")  # which has a sample of its own, and which is only read

    def listed(name: str, ending: str) -> Sample:
        def written(folder: Path) -> Path:
            place, one = folder / f"TS_1{ending}", every
            if name in ("imod", "copick", "plain"):  # of one tomogram, and copick of one kind
                one = every.in_tomogram("TS_1")
                one = one.select(one.kinds == "1")
            return write_particles(place, one, name, FRAMES)[0]

        return Sample(name=f"particles.{name}", make=written, read=lambda p: read_particles(p, FRAMES, name))

    def guessed(folder: Path) -> Path:
        return write_particles(folder / "a.star", every, "relion5", FRAMES)[0]

    pdb = "ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00 12.50           N\nHETATM    2 ZN   ZN  B   2      -1.500   2.250   3.000  1.00 99.99          ZN\nEND\n"
    cif = "data_x\nloop_\n_atom_site.group_PDB\n_atom_site.id\n_atom_site.type_symbol\n_atom_site.label_atom_id\n_atom_site.label_alt_id\n_atom_site.label_comp_id\n_atom_site.label_asym_id\n_atom_site.label_entity_id\n_atom_site.label_seq_id\n_atom_site.Cartn_x\n_atom_site.Cartn_y\n_atom_site.Cartn_z\n_atom_site.occupancy\n_atom_site.B_iso_or_equiv\n_atom_site.auth_seq_id\n_atom_site.auth_asym_id\n_atom_site.pdbx_PDB_model_num\nATOM 1 N N . ALA A 1 1 11.104 6.134 -6.504 1.00 12.50 1 A 1\n"
    mtf_rows = "".join(f"{i / 20:.3f} {1 - i / 20:.3f}\n" for i in range(11))
    tomograms = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoSizeX #2\n_rlnTomoSizeY #3\n_rlnTomoSizeZ #4\n_rlnTomoTiltSeriesPixelSize #5\n_rlnTomoTomogramBinning #6\nTS_1 600 500 400 1.5 4\nTS_2 600 500 400 1.5 4\n"
    landmarks = "name,fluorescence_x,fluorescence_y,target_x,target_y\na,1,2,3,4\nb,5,6,7,8\nc,9,1,2,3\n"
    return [
        *(listed(name, ending) for name, ending in PARTICLE_FORMATS.items() if name not in elsewhere),
        Sample(name="particles.guessed", make=guessed, read=lambda p: read_particles(p, FRAMES)),
        one_file("a.star", lambda p: star.write_star(p, {"one": {"a": [1, 2], "b": ["x y", None]}, "two": {"c": [1.5]}}), star.read_star),
        one_file("checked.star", lambda p: star.write_star(p, {"one": {"a": [1, 2], "b": ["x y", None]}}), star.validate_star),
        text_file("tomograms.star", tomograms, read_tomogram_frames),
        text_file("numbers.doc", "1\tTS_1.mrc\n2\tTS_2.mrc\n", particle_columns.read_tomogram_numbers),
        one_file("artiax.star", lambda p: artiax.write_artiax_list(p, every, np.arange(4), "TS_1", FRAMES.of("TS_1")), artiax.read_artiax_list),
        one_file("a.mod", lambda p: write_imod_model(p, contours, (60, 50, 40), 4.0, ["x", "y"]), read_imod_model),
        one_file("contours.mod", lambda p: write_imod_model(p, contours, (60, 50, 40), 4.0, ["x", "y"]), lambda p: read_model_contours(p, FRAMES.of("a"))),
        one_file("tracks.star", lambda p: tracks.write_tracks(p, made, [4, 1, 0]), lambda p: tracks.read_tracks(p, [4, 1, 0])),
        one_file("tracks_by_hand.star", lambda p: tracks.write_tracks(p, made, [4, 1, 0], by_hand=np.array([True, False, False, True, True])), tracks.read_tracks_by_hand),
        one_file("tracks.fid", lambda p: tracks.write_tracks_model(p, made, image_shape=(80, 96), pixel_size=1.5, sections=[0, 1, 2]), lambda p: tracks.read_tracks_model(p, image_shape=(80, 96), pixel_size=1.5, sections=[0, 1, 2])),
        text_file("markers.txt", "# markers\n0 -3.0 100 200\n0 0.0 101 202\n1 -3.0 50 60\n1 0.0 -1 -1\n", tracks.read_marker_table),
        text_file("a.pdb", pdb, atoms.read_atoms),
        text_file("a.cif", cif, atoms.read_atoms),
        one_file("a.pdb.gz", lambda p: p.write_bytes(gzip.compress(pdb.encode())), atoms.read_atoms),
        *(one_file(f"mesh{end}", lambda p: meshes.write_mesh(p, *tetrahedron), meshes.read_mesh) for end in (".ply", ".stl", ".obj", ".vtk")),
        text_file("landmarks.csv", landmarks, landmark_files.read_landmarks),
        text_file("points.csv", "x,y,z\n1,2,3\n4,5,6\n", landmark_files.read_points),
        text_file("mtf.star", f"data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{mtf_rows}", mtf.read_mtf),
        one_file("curves.npz", lambda p: np.savez(p, a=np.arange(3.0), b=np.ones((2, 2))), curves.read_curves),
    ]  # fmt: skip


def dm_file(place: Path) -> None:
    """A DM3 file, written by the library that reads them."""
    import importlib

    utils = importlib.import_module("nionswift_plugin.DM_IO.dm3_image_utils")
    data_and_metadata = importlib.import_module("nion.data.DataAndMetadata")
    calibration = importlib.import_module("nion.data.Calibration")
    length = calibration.Calibration(0.0, 0.4, "nm")
    image = data_and_metadata.new_data_and_metadata(volume()[0], dimensional_calibrations=[length, length])
    with place.open("wb") as file:
        utils.save_image(image, file, 3 if place.suffix == ".dm3" else 4)


def dm() -> list[Sample]:
    from eucentric.io.dm import read_dm

    return [one_file("a.dm3", dm_file, read_dm), one_file("a.dm4", dm_file, read_dm)]


def samples() -> dict[str, Sample]:
    """Every reader by the name of its sample."""
    found = [*volumes(), *movies(), *tilt_series(), *lists(), *dm(), *exchange()]
    names = [one.name for one in found]
    assert len(set(names)) == len(names), "two samples have one name"
    return {one.name: one for one in found}


__all__ = ["Sample", "samples"]
