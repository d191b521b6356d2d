"""What ties a model to the cubes that it may read, without naming a patient."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hgpscale.contents import restricted
from hgpscale.cube.head import Head
from hgpscale.learn.samples import features_of

if TYPE_CHECKING:
    import xarray as xr


def settings_digest(cube: xr.Dataset, features: Collection[str]) -> str:
    """Return a digest of everything that decides the values of some features of a cube.

    Whatever else the cube has, other regions, image types or families, changes nothing. Two cubes with the same digest
    have these features of the same meaning: settings and numeric versions of the families are the same. That of an
    imported table says only that it is one.

    Parameters
    ----------
    cube
        As `hgpscale.open_cube` gives it.
    features
        Flat names, such as ``rim__original_glcm_Contrast``; those that the cube does not have are ignored.

    """
    head = Head.of(cube.attrs)
    if head.settings is None:
        return "imported table"
    used = [key for key in cube.hgp.keys if not set(features_of(cube, key)).isdisjoint(features)]
    parameters = restricted(head.settings, used).to_parameters()
    parameters["featureClass"] = {family: head.versions[family] for _, _, family in sorted(used)}
    text = json.dumps(parameters, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def lesion_hash(key: bytes, lesion: Any) -> str:
    """Return a lesion's id as a keyed hash: the same lesion is known again, its id is not told."""
    return hmac.new(key, str(lesion).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]
