"""A folder for each patient, with an image and masks whose names follow a pattern of the user's."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline, folders_of, one_of
from hgpscale.cohort.manifest import DEFAULT_SEGMENTATION
from hgpscale.errors import ManifestError

_PLACES = ("lesion", "rater")


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    if not options.image or not options.mask:
        raise ManifestError(
            "layout folder needs --image and --mask, globs within a patient's folder, "
            "such as --image 'ct.nii.gz' --mask 'seg_{lesion}_{rater}.nii.gz'"
        )
    pattern = mask_pattern(options.mask)
    if options.split and "lesion" in pattern.groupindex:
        raise ManifestError("--split and {lesion} in --mask exclude each other: a mask is one lesion or is split")
    glob = re.sub(r"\{\w+\}", "*", options.mask)
    for folder in folders_of(root):
        image = one_of(folder, options.image)
        liver = one_of(folder, options.liver) if options.liver else None
        for wrong in (image, liver):
            if isinstance(wrong, str):
                yield LeftOut(folder.name, str(folder), wrong)
        if isinstance(image, str):
            continue
        outlines = []
        for mask in sorted(folder.glob(glob)):
            match = pattern.fullmatch(mask.relative_to(folder).as_posix())
            if match and mask not in (image, liver):
                named = match.groupdict()
                lesion = None if options.split else named.get("lesion", "")
                outlines.append(Outline(mask, named.get("rater", DEFAULT_SEGMENTATION), lesion=lesion))
        if not outlines:
            yield LeftOut(folder.name, str(folder), f"no mask: no file matches {options.mask!r}")
            continue
        yield Found(folder.name, image, tuple(outlines), liver if isinstance(liver, Path) else None)


def mask_pattern(glob: str) -> re.Pattern[str]:
    """Return what a mask's path within the patient's folder must match; groups ``lesion`` and ``rater``.

    Raises
    ------
    ManifestError
        `glob` holds another placeholder, or one twice.

    """
    parts = re.split(r"\{(\w+)\}", glob)
    places = parts[1::2]
    if set(places) - set(_PLACES) or len(set(places)) < len(places):
        raise ManifestError(
            f"--mask is {glob!r}: expected the placeholders {{lesion}} and {{rater}}, each at most once"
        )
    # A placeholder stands for a name without a slash, as * does; fnmatch's own * would cross folders.
    text = [
        f"(?P<{part}>[^/]+?)" if at % 2 else fnmatch.translate(part)[4:-3].replace(".*", "[^/]*")
        for at, part in enumerate(parts)
    ]
    return re.compile("".join(text))


FOLDER = Layout(
    "folder",
    "one folder a patient; --image, --mask and --liver say which files",
    _find,
    takes=("image", "mask", "liver", "split"),
)
