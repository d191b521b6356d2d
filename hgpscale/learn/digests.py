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
    have these features of the same meaning: settings and numeric versions of the families are the same, and so are the
    networks that made numbers of the family `deep`. That of an imported table says, besides, only that it is one.

    Parameters
    ----------
    cube
        As `hgpscale.open_cube` gives it.
    features
        Flat names, such as ``rim__original_glcm_Contrast``; those that the cube does not have are ignored.

    """
    head = Head.of(cube.attrs)
    used = [key for key in cube.hgp.keys if not set(features_of(cube, key)).isdisjoint(features)]
    of_networks = {family: head.about[family] for _, _, family in used if family in head.about}
    if head.settings is None and not of_networks:
        return "imported table"
    parameters: dict[str, Any] = {}
    if head.settings is not None:
        extracted = [key for key in used if key in head.contents.extracted]
        parameters = restricted(head.settings, extracted).to_parameters()
        parameters["featureClass"] = {family: head.versions[family] for _, _, family in sorted(extracted)}
    parameters |= {"networks": of_networks} if of_networks else {}
    text = json.dumps(parameters, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def lesion_hash(key: bytes, lesion: Any) -> str:
    """Return a lesion's id as a keyed hash: the same lesion is known again, its id is not told."""
    return hmac.new(key, str(lesion).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]
