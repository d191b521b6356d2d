"""Says plainly when what networks are made of is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from hgpscale.errors import DeepError

_NEEDED = ("torch", "monai", "safetensors")


def require_torch() -> None:
    """Make sure that the extra ``deep`` is installed.

    Raises
    ------
    DeepError
        It is not; the message says how to.

    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise DeepError(f"{', '.join(missing)} is not installed, which networks need: pip install 'hgpscale[deep]'")
