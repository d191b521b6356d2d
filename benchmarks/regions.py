"""What regions cost: the preset hgp-ct on a sphere of 45 mm, the lesion alone and with rim and margin, one process."""

from __future__ import annotations

import time

import numpy as np
import SimpleITK as sitk

from hgpscale import extract_lesion
from hgpscale.settings import Settings

SHAPE, SPACING, RADIUS, RUNS = (60, 140, 140), (2.0, 0.8, 0.8), 22.5, 3


def phantom() -> tuple[sitk.Image, sitk.Image]:
    """Return a noisy CT and the mask of a sphere in its middle."""
    axes = [(np.arange(n) - n / 2) * step for n, step in zip(SHAPE, SPACING, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    voxels = (100 + 30 * np.random.default_rng(0).standard_normal(SHAPE)).astype(np.int16)
    images = [sitk.GetImageFromArray(array) for array in (voxels, (z**2 + y**2 + x**2 <= RADIUS**2).astype(np.uint8))]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    return images[0], images[1]


def main() -> None:
    """Print a line for each choice of regions."""
    image, mask = phantom()
    preset = Settings.of("hgp-ct")
    for regions in ({"lesion": None}, {"rim": 3.0}, {"margin": 4.0}, preset.regions):
        settings = preset.model_copy(update={"regions": regions})
        features = len(extract_lesion(image, mask, settings))
        began = time.perf_counter()
        for _ in range(RUNS):
            extract_lesion(image, mask, settings)
        milliseconds = (time.perf_counter() - began) / RUNS * 1e3
        print(f"{', '.join(regions):24} {features:5} features {milliseconds:6.0f} ms")


if __name__ == "__main__":
    main()
