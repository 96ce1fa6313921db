"""The state that neuroglancer is given for a tomogram: layers, colours, where to look.

x points right, y up and z towards the reader in the plane of the specimen, as in pictures of the report and in other programs of the
field. Coordinates are voxels of the first tomogram from the specimen centre, so that a step is a slice.
"""

from typing import Any

import numpy as np

from eucentric.models.particles import ParticleSet
from eucentric.viewer import annotations
from eucentric.viewer.correlative_layers import LIGHT, LIGHT_COLOUR
from eucentric.viewer.project_view import MeshFile, PickFile, VolumeFile
from eucentric.viewer.volumes import Volume

_UP = [1.0, 0.0, 0.0, 0.0]
"""Half a turn about x: neuroglancer's y points down and its z away."""
_GREY = "#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }\n"
_OVERLAY = """#uicontrol invlerp normalized
#uicontrol vec3 color color(default="#56b4e9")
void main() { emitRGBA(vec4(color, normalized() * 0.7)); }
"""
_POINTS = """#uicontrol bool by_score checkbox(default=false)
#uicontrol float least_score slider(min={low:.6g}, max={high:.6g}, default={low:.6g})
#uicontrol float size slider(min=2, max=30, default=9)
void main() {{
  if (prop_score() < least_score) discard;
  setColor(by_score ? prop_score_color() : prop_kind_color());
  setPointMarkerSize(size);
  setPointMarkerBorderWidth(1.0);
  setPointMarkerBorderColor(vec4(0.0, 0.0, 0.0, 1.0));
}}
"""
_AXES = """#uicontrol float least_score slider(min={low:.6g}, max={high:.6g}, default={low:.6g})
#uicontrol float width slider(min=1, max=8, default=3)
void main() {{
  if (prop_score() < least_score) discard;
  setColor(prop_axis() == 0u ? prop_kind_color() : vec3(1.0, 1.0, 1.0));
  setLineWidth(prop_axis() == 0u ? width : 0.5 * width);
  setEndpointMarkerSize(0.0);
}}
"""
_LABELS = "labels"


def image_layer(file: VolumeFile, address: str, limits: tuple[float, float], visible: bool) -> dict[str, Any]:
    """A volume in grey, or in colour over the others where it was put back into the tomogram or is light microscopy."""
    mapped, light = file.title.startswith("Mapped back"), file.title.startswith(LIGHT)
    controls: dict[str, Any] = {"normalized": {"range": [0.0, limits[1]] if mapped and limits[1] > 0 else list(limits)}}
    if light:
        controls["color"] = LIGHT_COLOUR
    return {
        "type": "image",
        "name": file.title,
        "source": f"zarr3://{address}",
        "shader": _OVERLAY if mapped or light else _GREY,
        "shaderControls": controls,
        "opacity": 1.0,
        "visible": visible,
    }


def labels_layer(file: VolumeFile, address: str) -> dict[str, Any]:
    """Whole numbers, each in a colour of its own."""
    return {
        "type": "segmentation",
        "name": file.title,
        "source": f"zarr3://{address}",
        "selectedAlpha": 0.35,
        "hideSegmentZero": True,
        "tab": "rendering",
        "visible": False,
    }


def pick_layers(file: PickFile, particles: ParticleSet, address: str, visible: bool) -> list[dict[str, Any]]:
    """Points, and where the particles are turned their axes: z in the colour of the kind, x white and shorter."""
    known = particles.scores[np.isfinite(particles.scores)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    margin = 1e-4 * max(abs(low), abs(high), 1e-6)  # no rounding on the way may cut off the least or the best
    limits = {"low": low - margin, "high": high + margin}
    points = {
        "type": "annotation",
        "name": f"{file.title}: points",
        "source": f"precomputed://{address}points",
        "shader": _POINTS.format(**limits),
        "visible": visible,
    }
    if not particles.oriented:
        return [points]
    axes = {
        "type": "annotation",
        "name": f"{file.title}: axes",
        "source": f"precomputed://{address}axes",
        "shader": _AXES.format(**limits),
        "visible": visible,
    }
    return [points, axes]


def copies_layer(file: PickFile, particles: ParticleSet, address: str, visible: bool) -> dict[str, Any]:
    """The average at every particle, a segment a kind."""
    colours = list(annotations.kind_colours(particles).values())
    numbers = [str(i + 1) for i in range(len(colours))]
    return {
        "type": "segmentation",
        "name": f"{file.title}: surfaces",
        "source": f"precomputed://{address}",
        "segments": numbers,
        "segmentColors": dict(zip(numbers, colours, strict=True)),
        "visible": visible,
    }


def mesh_layer(file: MeshFile, address: str) -> dict[str, Any]:
    """A surface of the project."""
    return {
        "type": "segmentation",
        "name": file.title,
        "source": f"precomputed://{address}",
        "segments": ["1"],
        "segmentColors": {"1": annotations.COLOURS[1]},
    }


def scene(
    layers: list[dict[str, Any]], volume: Volume | None, position_angstrom: tuple[float, float, float]
) -> dict[str, Any]:
    """The whole state.

    Parameters
    ----------
    volume : whose voxels are the steps; None: steps of 10 A
    position_angstrom : x, y, z from the specimen centre, in the middle of the view
    """
    voxel = 10.0 if volume is None else volume.levels[0].voxel_zyx_angstrom[0]
    size = (100, 100, 100) if volume is None else volume.levels[0].shape_zyx[::-1]
    return {
        "dimensions": {name: [voxel * 1e-10, "m"] for name in "xyz"},
        "position": [p / voxel for p in position_angstrom],
        "crossSectionOrientation": _UP,
        "crossSectionScale": max(size[:2]) / 560.0,
        "projectionOrientation": _UP,
        "projectionScale": 1.3 * max(size),
        "layers": layers,
        "layout": "4panel",
        "showDefaultAnnotations": True,
        "showAxisLines": True,
        "hideCrossSectionBackground3D": True,
    }
