"""One lesion on one thread, from file paths to a dict: hgpscale and pyradiomics in turn.

    python benchmarks/against_pyradiomics.py [--diameter 45] [--repeats 7] [--spacing 1]

Prints the median of each and the median of the ratios pair by pair: these machines are noisy, the ratio is what
counts.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk
from threadpoolctl import threadpool_limits

import hgpscale
from hgpscale.testing import sphere


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diameter", type=float, default=45, help="of the lesion, in mm")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--spacing", type=float, default=1, help="to resample to, in mm; 0: as stored")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # pyradiomics reports every matrix
    warnings.simplefilter("ignore")
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    setting = {"resampledPixelSpacing": [options.spacing] * 3} if options.spacing else {}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        image, mask = sphere(options.diameter)
        paths = [str(Path(folder) / name) for name in ("image.nii.gz", "mask.nii.gz")]
        for path, volume in zip(paths, (image, mask), strict=True):
            sitk.WriteImage(volume, path)
        extractor = RadiomicsFeatureExtractor(additionalInfo=False, **setting)
        settings = hgpscale.Settings.from_parameters({"setting": setting})

        def ours() -> object:
            return hgpscale.extract_lesion(*paths, settings)

        def theirs() -> object:
            return extractor.execute(*paths)

        print(f"first call (compiles, or loads compiled kernels): {seconds(ours):.1f} s")
        seconds(theirs)
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(options.repeats)]
        print(f"{options.diameter:g} mm lesion, image {image.GetSize()}, resampled to {options.spacing:g} mm")
        print(f"hgpscale     {1e3 * statistics.median(a for a, _ in pairs):7.1f} ms")
        print(f"pyradiomics  {1e3 * statistics.median(b for _, b in pairs):7.1f} ms")
        print(f"ratio        {statistics.median(b / a for a, b in pairs):7.1f}")


if __name__ == "__main__":
    main()
