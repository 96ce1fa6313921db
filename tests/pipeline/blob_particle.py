"""A particle of blobs, for projects that tests make."""

import numpy as np
import torch


def blob_particle(seed: int, *, blobs: int, radius_px: float, box: int) -> torch.Tensor:
    """(z, y, x) with blobs of 1.5 pixels at random places within a ball about the middle."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(blobs, 3))
    points *= radius_px * rng.uniform(0.2, 1.0, (blobs, 1)) ** (1 / 3) / np.linalg.norm(points, axis=1, keepdims=True)
    line = np.arange(box) - box // 2
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    out = sum(np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / 4.5) for p in points)
    return torch.from_numpy(np.asarray(out, dtype=np.float32))
