"""Versions of what runs, from what is installed: nothing is imported, so nothing can break."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import hgpscale
from hgpscale.doctor.found import Extra, Package, Software

NEEDED = (
    "numpy", "numba", "llvmlite", "SimpleITK", "zarr", "xarray", "dask", "distributed", "scikit-learn", "pandas",
    "scipy", "PyWavelets", "pyarrow", "pydicom", "python-gdcm", "isal", "pydantic", "pyyaml", "rich", "typer", "jinja2",
    "matplotlib", "psutil", "skops", "threadpoolctl",
)  # fmt: skip
"""What hgpscale does not run without, by the names to install it by; first what a bug report is most often about."""

EXTRAS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "lbp": ("image types LBP2D and LBP3D", ("scikit-image", "trimesh")),
    "s3": ("cubes on S3", ("obstore",)),
    "jobqueue": ("workers as jobs of SLURM, PBS or LSF", ("dask-jobqueue", "cryptography")),
    "kubernetes": ("workers as pods of Kubernetes", ("dask-kubernetes",)),
    "deep": ("networks", ("torch", "monai", "safetensors", "highdicom")),
}
"""Extras that users may want: what for, and which packages."""


def installed() -> Software:
    """Say what runs and what is installed."""
    return Software(
        hgpscale.__version__,
        str(Path(hgpscale.__file__).parent),
        platform.python_version(),
        platform.platform(),
        _processor(),
        tuple(map(package, NEEDED)),
        tuple(_extra(name, purpose, tuple(map(package, names))) for name, (purpose, names) in EXTRAS.items()),
    )


def package(name: str) -> Package:
    """Return a package with its version."""
    try:
        return Package(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Package(name, None)


def _extra(name: str, purpose: str, packages: tuple[Package, ...]) -> Extra:
    missing = any(package.version is None for package in packages)
    return Extra(name, purpose, packages, f"pip install 'hgpscale[{name}]'" if missing else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    named = (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name")
    return next(named, "") or platform.processor() or platform.machine()
