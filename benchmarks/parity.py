"""Every image type and setting against pyradiomics, run live on the same voxels: the worst difference of each.

    python benchmarks/parity.py DATA [--cases lung1 brain1] [--rows wavelet] [--json parity.json]

DATA is the folder of real scans (the tests' ``HGPSCALE_TEST_DATA``); without it only phantoms are measured. Prints a
table with a row for each setting or image type: the worst relative difference of all features (of values below 0.001
the difference itself, a thousand times), for each case. Names are compared first.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import yaml
from real_scans import SCANS

from hgpscale.catalog import DEFAULT_FAMILIES
from hgpscale.parameters import INTERPOLATORS
from hgpscale.settings import Settings
from hgpscale.single import extract_lesion
from hgpscale.testing import sphere

EXAMPLES = Path(__file__).parents[1] / "examples" / "settings"
ONE_MM = {"resampledPixelSpacing": [1, 1, 1]}
ORIGINAL: dict[str, Any] = {"Original": {}}

Row = tuple[str, dict[str, Any], dict[str, Any], dict[str, Any] | None]
"""Name, setting, imageType, featureClass (None: the default classes)."""


def rows() -> Iterator[Row]:
    """Yield every setting and image type alone, then the example files' combinations."""
    for name, setting in SETTINGS.items():
        yield name, setting, ORIGINAL, None
    for name, own in IMAGE_TYPES.items():
        yield name, {}, own, None
    for name, own in IMAGE_TYPES.items():
        yield f"{name}, 1 mm", ONE_MM, own, None
    for name in INTERPOLATORS:
        yield f"interpolator {name}, 1 mm", {**ONE_MM, "interpolator": name}, ORIGINAL, None
    for file in sorted(EXAMPLES.glob("*.yaml")):
        parameters = yaml.safe_load(file.read_text())
        yield (
            f"examples/settings/{file.name}",
            parameters["setting"],
            parameters["imageType"],
            parameters.get("featureClass"),
        )


SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "binWidth 10": {"binWidth": 10},
    "binCount 64": {"binCount": 64},
    "normalize": {"normalize": True, "normalizeScale": 100, "binWidth": 5},
    "normalize, removeOutliers 3": {"normalize": True, "normalizeScale": 100, "removeOutliers": 3, "binWidth": 5},
    "resampledPixelSpacing 1 1 1": ONE_MM,
    "resampledPixelSpacing 2 2 0": {"resampledPixelSpacing": [2, 2, 0]},
    "resampledPixelSpacing 0 0 0": {"resampledPixelSpacing": [0, 0, 0]},
    "normalize, 2 mm": {"normalize": True, "normalizeScale": 100, "binWidth": 5, "resampledPixelSpacing": [2, 2, 2]},
    "padDistance 0, 1 mm": {**ONE_MM, "padDistance": 0},
    "preCrop": {"preCrop": True},
    "resegmentRange absolute": {"resegmentRange": [-50, 150]},
    "resegmentRange relative": {"resegmentRange": [0.1, 0.9], "resegmentMode": "relative"},
    "resegmentRange sigma": {"resegmentRange": [-2, 2], "resegmentMode": "sigma"},
    "resegmentRange sigma, resegmentShape": {
        "resegmentRange": [-2, 2],
        "resegmentMode": "sigma",
        "resegmentShape": True,
    },
    "force2D, dimension 0": {"force2D": True, "force2Ddimension": 0},
    "force2D, dimension 1": {"force2D": True, "force2Ddimension": 1},
    "force2D, dimension 2": {"force2D": True, "force2Ddimension": 2},
    "distances 1 2": {"distances": [1, 2]},
    "distances 3": {"distances": [3]},
    "weightingNorm manhattan": {"weightingNorm": "manhattan"},
    "weightingNorm euclidean": {"weightingNorm": "euclidean"},
    "weightingNorm infinity": {"weightingNorm": "infinity"},
    "weightingNorm no_weighting": {"weightingNorm": "no_weighting"},
    "symmetricalGLCM off": {"symmetricalGLCM": False},
    "gldm_a 1": {"gldm_a": 1},
    "voxelArrayShift 1000": {"voxelArrayShift": 1000},
}

IMAGE_TYPES: dict[str, dict[str, Any]] = {
    "Wavelet": {"Wavelet": {}},
    "Wavelet db4, 2 levels": {"Wavelet": {"wavelet": "db4", "level": 2}},
    "Wavelet bior3.3, start_level 1": {"Wavelet": {"wavelet": "bior3.3", "start_level": 1}},
    "Wavelet haar, binWidth 10": {"Wavelet": {"wavelet": "haar", "binWidth": 10}},
    "LoG 1 3 5": {"LoG": {"sigma": [1.0, 3.0, 5.0]}},
    "Square": {"Square": {}},
    "SquareRoot": {"SquareRoot": {}},
    "Logarithm": {"Logarithm": {}},
    "Exponential": {"Exponential": {}},
    "Gradient": {"Gradient": {}},
    "Gradient, gradientUseSpacing off": {"Gradient": {"gradientUseSpacing": False}},
    "LBP2D uniform": {"LBP2D": {"binWidth": 1}},
    "LBP2D default, radius 2, 12 samples": {
        "LBP2D": {"binWidth": 100, "lbp2DMethod": "default", "lbp2DRadius": 2, "lbp2DSamples": 12}
    },
    "LBP2D ror": {"LBP2D": {"binWidth": 1, "lbp2DMethod": "ror"}},
    "LBP3D": {"LBP3D": {"binWidth": 0.1}},
    "LBP3D, 3 levels": {"LBP3D": {"binWidth": 0.1, "lbp3DLevels": 3}},
}


def cases(data: Path | None, names: list[str]) -> Iterator[tuple[str, sitk.Image, sitk.Image]]:
    """Yield name, image and mask of phantoms and real scans; of several labels the first."""
    yield "phantom 20 mm", *sphere(20)
    if data is None:
        return
    for name in names:
        image, mask = (sitk.ReadImage(str(data / path)) for path in SCANS[name])
        yield name, image, mask


def reference(
    image: sitk.Image,
    mask: sitk.Image,
    setting: Mapping[str, Any],
    types: Mapping[str, Any],
    features: Mapping[str, Any],
) -> dict[str, complex]:
    """Return pyradiomics' features."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    extractor = RadiomicsFeatureExtractor(additionalInfo=False, **setting)
    extractor.enabledImagetypes = dict(types)
    extractor.enabledFeatures = dict(features)
    return {name: complex(value) for name, value in extractor.execute(image, mask).items()}


def worst(theirs: Mapping[str, complex], ours: Mapping[str, float]) -> tuple[float, str]:
    """Return the largest relative difference (absolute below 0.001) and its feature; NaN against NaN is none."""
    assert set(theirs) == set(ours), f"names differ: {sorted(set(theirs) ^ set(ours))[:5]}"
    found = (0.0, "")
    for name, value in theirs.items():
        if math.isnan(value.real) and math.isnan(ours[name]):
            continue
        difference = abs(value - ours[name]) / max(abs(value), 1e-3)
        if not difference <= found[0]:
            found = (difference, name)
    return found


def compare(
    image: sitk.Image, mask: sitk.Image, setting: dict[str, Any], types: dict[str, Any], features: dict[str, Any] | None
) -> tuple[float, str, int]:
    """Return the worst difference, its feature and how many features there are; both refusing counts as equal."""
    chosen = features or dict.fromkeys(DEFAULT_FAMILIES)
    settings = Settings.from_parameters({"setting": setting, "imageType": types, "featureClass": chosen})
    try:
        theirs = reference(image, mask, setting, types, chosen)
    except ValueError as error:
        try:
            extract_lesion(image, mask, settings, label=1)
        except ValueError:
            return 0.0, f"both refuse: {str(error)[:40]}", 0
        return math.nan, f"only pyradiomics refuses: {str(error)[:40]}", 0
    ours = extract_lesion(image, mask, settings, label=1)
    return *worst(theirs, ours), len(theirs)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--cases", nargs="+", default=["brain1", "breast1", "lung1", "STS_003", "PAT1"], choices=SCANS)
    parser.add_argument("--rows", default="", help="only rows whose name holds this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # pyradiomics reports every matrix
    warnings.simplefilter("ignore")
    chosen = list(cases(options.data, options.cases))
    print("| setting or image type | features | " + " | ".join(name for name, _, _ in chosen) + " | worst feature |")
    print("|---|---|" + "---|" * len(chosen) + "---|")
    results = {}
    for name, setting, types, features in rows():
        if options.rows.lower() not in name.lower():
            continue
        found = {case: compare(image, mask, setting, types, features) for case, image, mask in chosen}
        results[name] = found
        last = max(found.values(), key=lambda one: math.inf if math.isnan(one[0]) else one[0])
        shown = " | ".join(f"{difference:.1e}" for difference, _, _ in found.values())
        print(f"| {name} | {max(n for _, _, n in found.values())} | {shown} | {last[1]} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
