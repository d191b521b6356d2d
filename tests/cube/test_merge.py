"""What a second run's settings add to a cube's, what they contradict, and which numbers that concerns."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hgpscale.catalog import FAMILIES
from hgpscale.contents import Contents, Key
from hgpscale.cube.merge import Merged, merge
from hgpscale.settings import Settings

BANDS = {f"wavelet-{''.join(letters)}" for letters in product("LH", repeat=3)}
NEW, OLD = FAMILIES["firstorder"].version, FAMILIES["firstorder"].version - 1


def made(types: Any, classes: dict[str, list[str]] | None = None, **setting: Any) -> Settings:
    """Make settings; image types as pyradiomics has them, or just their names."""
    chosen = types if isinstance(types, dict) else {name: {} for name in types}
    features = {"shape": ["MeshVolume"], "firstorder": ["Mean"]} if classes is None else classes
    return Settings.from_parameters({"imageType": chosen, "featureClass": features, "setting": setting})


def merged(stored: Settings, asked: Settings, **versions: int) -> Merged:
    return merge(stored, {family: FAMILIES[family].version for family in stored.features} | versions, asked)


def keys(images: Iterable[str], families: Iterable[str]) -> frozenset[Key]:
    return frozenset(("lesion", image, family) for image, family in product(images, families))


SHAPE = ("lesion", "original", "shape")
ONE = made(["Original"])
BOTH = made(["Original", "Square"])
LOG = made({"LoG": {"sigma": [2]}})


@pytest.mark.parametrize(
    ("stored", "asked", "images"),
    [
        pytest.param(ONE, made(["Square"]), {"original", "square"}, id="image type"),
        pytest.param(BOTH, ONE, {"original", "square"}, id="less than there is"),
        pytest.param(ONE, made(["Wavelet"]), {"original"} | BANDS, id="image type of several images"),
        pytest.param(LOG, made({"LoG": {"sigma": [3]}}), {"log-sigma-2-mm-3D", "log-sigma-3-mm-3D"}, id="width"),
        pytest.param(LOG, made(["LoG"], sigma=[3]), {"log-sigma-2-mm-3D", "log-sigma-3-mm-3D"}, id="width for all"),
        pytest.param(
            made(["LoG"], sigma=[2]),
            made({"LoG": {"sigma": [3]}}, sigma=[2]),
            {"log-sigma-2-mm-3D", "log-sigma-3-mm-3D"},
            id="width of its own beside one for all",
        ),
        pytest.param(
            made({"LoG": {"sigma": [2, 3]}}),
            made({"LoG": {"sigma": [2]}}, sigma=[2, 3]),
            {"log-sigma-2-mm-3D", "log-sigma-3-mm-3D"},
            id="widths that are those for all together",
        ),
        pytest.param(
            LOG, made({"LoG": {"sigma": [2.0]}}), {"log-sigma-2-mm-3D", "log-sigma-2-0-mm-3D"}, id="2 and 2.0"
        ),
        pytest.param(LOG, made(["Square"], sigma=[2.0]), {"log-sigma-2-mm-3D", "square"}, id="2.0 for none"),
        pytest.param(ONE, made(["Square"], binWidth=5), {"original", "square"}, id="bins for another image type"),
    ],
)
def test_what_is_asked_for_is_added_and_nothing_is_altered(stored: Settings, asked: Settings, images: set[str]) -> None:
    found = merged(stored, asked)
    assert found[1:] == ((), frozenset(), ())
    expected = keys(images, ["firstorder"]) | {SHAPE}
    assert set(Contents.of(found.settings).keys) == expected
    # The cube writes it into its root, and reads it back.
    assert set(Contents.of(Settings.from_parameters(found.settings.to_parameters())).keys) == expected


def test_families_are_added_and_those_of_the_cube_keep_their_features() -> None:
    stored = made(["Original"], {"firstorder": ["Mean", "Energy"]})
    found = merged(stored, made(["Square"], {"firstorder": ["Mean"], "glcm": ["Contrast", "Id"]}))
    assert found[1:] == ((), frozenset(), ())
    # In pyradiomics' order, which is alphabetical.
    assert found.settings.features == {"firstorder": ("Energy", "Mean"), "glcm": ("Contrast", "Id")}


def test_each_image_type_keeps_what_its_numbers_were_made_with() -> None:
    stored = made({"Original": {}, "Square": {"gldm_a": 1}}, binCount=8)
    found = merged(stored, made({"Gradient": {"gradientUseSpacing": False}}, binWidth=5, gldm_a=2))
    assert found.differences == ()
    by_type = {name: found.settings.of_image_type(name) for name in found.settings.image_types}
    assert {name: (own.binWidth, own.binCount, own.gldm_a) for name, own in by_type.items()} == {
        "Original": (25, 8, 0),
        "Square": (25, 8, 1),
        "Gradient": (5, None, 2),
    }
    assert not by_type["Gradient"].gradientUseSpacing


@pytest.mark.parametrize(
    ("stored", "asked", "lines", "stale"),
    [
        pytest.param(
            BOTH,
            made(["Original"], normalize=True),
            ["normalize is False in the cube, now True"],
            keys(["original", "square"], ["firstorder"]) | {SHAPE},
            id="general",
        ),
        pytest.param(
            BOTH,
            made(["Gradient"], {"glcm": ["Id"]}, resampledPixelSpacing=[1, 1, 0], minimumROISize=9),
            [
                "resampledPixelSpacing is None in the cube, now [1.0, 1.0, 0.0]",
                "minimumROISize is None in the cube, now 9",
            ],
            keys(["original", "square"], ["firstorder"]) | {SHAPE},
            id="general although nothing of it is asked for again",
        ),
        pytest.param(
            BOTH,
            made(["Original", "Square"], binWidth=10),
            ["binWidth is 25.0 in the cube, now 10.0"],
            keys(["original", "square"], ["firstorder"]),
            id="for all image types",
        ),
        pytest.param(
            BOTH,
            made(["Original"], binWidth=10),
            ["binWidth is 25.0 in the cube, now 10.0"],
            keys(["original"], ["firstorder"]),
            id="for the one that is asked for",
        ),
        pytest.param(
            BOTH,
            made({"Original": {}, "Square": {"binWidth": 10}}),
            ["image type Square: binWidth is 25.0 in the cube, now 10.0"],
            keys(["square"], ["firstorder"]),
            id="in its own section",
        ),
        pytest.param(
            made(["Original", "Square", "Gradient"]),
            made({"Original": {}, "Square": {"binWidth": 10}, "Gradient": {"binWidth": 10}}),
            ["image type Square, Gradient: binWidth is 25.0 in the cube, now 10.0"],
            keys(["square", "gradient"], ["firstorder"]),
            id="in two sections",
        ),
        pytest.param(
            made({"Original": {"binWidth": 10}, "Square": {"binWidth": 10}}),
            made(["Original", "Square"], binWidth=10),
            [],
            frozenset(),
            id="the same said elsewhere",
        ),
        pytest.param(
            made(["Original", "Wavelet"]),
            made({"Original": {}, "Wavelet": {"wavelet": "haar", "level": 2}}),
            [
                "image type Wavelet: wavelet is 'coif1' in the cube, now 'haar'",
                "image type Wavelet: level is 1 in the cube, now 2",
            ],
            keys(BANDS, ["firstorder"]),
            id="of a filter",
        ),
        pytest.param(
            BOTH,
            made(["Original"], force2D=True),
            ["force2D is False in the cube, now True"],
            keys(["original"], ["firstorder"]) | {SHAPE},
            id="planes, which shape depends on",
        ),
        pytest.param(
            ONE,
            made(["Square"], {"firstorder": ["Mean"]}, force2D=True),
            ["force2D is False in the cube, now True"],
            {SHAPE},
            id="planes for shape alone",
        ),
        pytest.param(
            BOTH,
            made({"Original": {}, "Square": {"force2D": True}}),
            ["image type Square: force2D is False in the cube, now True"],
            keys(["square"], ["firstorder"]),
            id="planes for an image type",
        ),
        pytest.param(
            made(["Original"], {"firstorder": ["Mean"]}),
            made(["Square"], {"shape": ["MeshVolume"]}, force2D=True),
            [],
            frozenset(),
            id="planes where the cube has no shape",
        ),
    ],
)
def test_a_setting_that_alters_numbers_is_told_with_those_numbers(
    stored: Settings, asked: Settings, lines: list[str], stale: frozenset[Key]
) -> None:
    assert merged(stored, asked)[1:] == (tuple(lines), stale, ())


def test_a_family_with_more_features_is_replaced() -> None:
    found = merged(BOTH, made(["Original"], {"firstorder": ["Kurtosis", "Energy", "Mean"]}))
    assert found.differences == ("feature class firstorder lacks Energy, Kurtosis in the cube",)
    assert found.stale == keys(["original", "square"], ["firstorder"])
    assert found.replaced == ("firstorder",)
    assert found.settings.features["firstorder"] == ("Energy", "Kurtosis", "Mean")


def test_another_numeric_version_of_a_family_is_told_if_that_is_asked_for() -> None:
    found = merged(BOTH, BOTH, firstorder=OLD)
    line = f"its firstorder numbers are of version {OLD}, this hgpscale computes version {NEW}"
    assert found == (BOTH, (line,), keys(["original", "square"], ["firstorder"]), ())
    assert merged(BOTH, made(["Original"], {"shape": ["MeshVolume"]}), firstorder=OLD).differences == ()


def test_all_that_differs_is_told_settings_first() -> None:
    stored = made(["Original", "Square"], {"glcm": ["Id"], "firstorder": ["Mean"]})
    asked = made({"Original": {}, "Square": {"binCount": 4}}, {"glcm": ["Idn"], "firstorder": ["Mean"]}, padDistance=9)
    assert merged(stored, asked, firstorder=OLD).differences == (
        "padDistance is 5 in the cube, now 9",
        "image type Square: binCount is None in the cube, now 4",
        f"its firstorder numbers are of version {OLD}, this hgpscale computes version {NEW}",
        "feature class glcm lacks Idn in the cube",
    )


def test_what_differs_is_as_asked_afterwards_and_the_rest_as_it_was() -> None:
    found = merged(made(["Original", "Square"], gldm_a=1), made(["Original"], normalize=True)).settings
    assert found.normalize
    assert (found.of_image_type("Original").gldm_a, found.of_image_type("Square").gldm_a) == (0, 1)


def test_shape_of_slices_goes_when_nothing_is_of_slices_any_more() -> None:
    stored = made(["Original"], {"shape2D": ["Perimeter"], "firstorder": ["Mean"]}, force2D=True)
    found = merged(stored, ONE)
    assert found.differences == ("force2D is True in the cube, now False",)
    assert found.stale == keys(["original"], ["shape2D", "firstorder"])
    assert set(found.settings.features) == {"shape", "firstorder"}
    assert Settings.from_parameters(found.settings.to_parameters()) == found.settings


# How wide the bins of an image type are, however settings say so.
BINS = {"Original": 25.0, "Wavelet": 10.0, "LoG": 25.0, "Square": 5.0}
CLASSES = {"firstorder": ["Mean"], "glcm": ["Id"], "shape": ["MeshVolume"]}


@st.composite
def growths(draw: st.DrawFn) -> tuple[Settings, set[str], set[str]]:
    """Draw settings that never contradict others of their kind, with the images and families that they ask for."""
    general: dict[str, Any] = {
        "binWidth": draw(st.sampled_from([25, 10])),
        "sigma": draw(st.sampled_from([[], [1], [1.0, 2.5]])),
    }
    types: dict[str, dict[str, Any]] = {}
    images: set[str] = set()
    for name in draw(st.sets(st.sampled_from(sorted(BINS)), min_size=1)):
        says_bins = BINS[name] != general["binWidth"] or draw(st.booleans())
        types[name] = {"binWidth": BINS[name]} if says_bins else {}
        if name == "LoG":
            sigma = general["sigma"]
            if not sigma or draw(st.booleans()):
                sigma = types[name]["sigma"] = draw(st.sampled_from([[1], [1.0], [2.5, 1], [3]]))
            images |= {f"log-sigma-{str(width).replace('.', '-')}-mm-3D" for width in sigma}
        else:
            images |= {"Original": {"original"}, "Wavelet": BANDS, "Square": {"square"}}[name]
    families = draw(st.sets(st.sampled_from(sorted(CLASSES)), min_size=1))
    return made(types, {name: CLASSES[name] for name in families}, **general), images, families


@hypothesis_settings(max_examples=60)
@given(steps=st.lists(growths(), min_size=2, max_size=4), data=st.data())
def test_growth_in_any_order_ends_in_the_same(
    steps: list[tuple[Settings, set[str], set[str]]], data: st.DataObject
) -> None:
    for order in (steps, data.draw(st.permutations(steps))):
        held, images, families = order[0]
        for asked, more_images, more_families in order[1:]:
            images, families = images | more_images, families | more_families
            found = merged(held, asked)
            assert found[1:] == ((), frozenset(), ())
            held = found.settings
            shape = {SHAPE} if "shape" in families else set()
            assert set(Contents.of(held).keys) == keys(images, families - {"shape"}) | shape
            assert {name: held.of_image_type(name).binWidth for name in held.image_types} == {
                name: BINS[name] for name in held.image_types
            }
            again = merged(held, asked)
            assert again[1:] == ((), frozenset(), ())
            assert again.settings.features == held.features
            assert Contents.of(again.settings).image_types == Contents.of(held).image_types
            assert merged(held, held).settings is held


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    own = st.fixed_dictionaries({}, optional={"binWidth": st.sampled_from([5, 25]), "force2D": st.booleans()})
    types = draw(st.dictionaries(st.sampled_from(["Original", "Wavelet", "Square"]), own, min_size=1))
    classes = st.dictionaries(st.sampled_from(["firstorder", "shape"]), st.just(None), min_size=1)
    setting = {
        "normalize": draw(st.booleans()),
        "force2D": draw(st.booleans()),
        "binWidth": draw(st.sampled_from([5, 25])),
    }
    return Settings.from_parameters({"imageType": types, "featureClass": draw(classes), "setting": setting})


@hypothesis_settings(max_examples=150)
@given(stored=any_settings(), asked=any_settings(), version=st.sampled_from([OLD, NEW]))
def test_exactly_what_another_setting_altered_is_stale(stored: Settings, asked: Settings, version: int) -> None:
    def made_with(settings: Settings, name: str) -> tuple[Any, ...]:
        own = settings.of_image_type(name)
        return own.normalize, own.binWidth, own.force2D

    found = merged(stored, asked, **({"firstorder": version} if "firstorder" in stored.features else {}))
    held = {key for name in stored.image_types for key in Contents.of(_only(stored, name)).keys}
    altered = set()
    for name in stored.image_types:
        if stored.normalize != asked.normalize or (
            name in asked.image_types and made_with(stored, name) != made_with(asked, name)
        ):
            altered |= {key for key in Contents.of(_only(stored, name)).keys if key[2] != "shape"}
    if (stored.normalize, stored.force2D) != (asked.normalize, asked.force2D):
        altered |= {SHAPE} & held
    if version == OLD and "firstorder" in asked.features:
        altered |= {key for key in held if key[2] == "firstorder"}
    assert found.stale == altered
    assert bool(found.differences) == bool(altered)
    assert set(Contents.of(found.settings).keys) >= set(Contents.of(asked).keys) | (held - altered)
    for name in stored.image_types:
        if name not in asked.image_types:
            assert made_with(found.settings, name)[1:] == made_with(stored, name)[1:]
    for name in asked.image_types:
        assert made_with(found.settings, name) == made_with(asked, name)


def _only(settings: Settings, image_type: str) -> Settings:
    return settings.model_copy(update={"image_types": {image_type: settings.image_types[image_type]}})


@pytest.mark.parametrize("asked", [BOTH, ONE, made(["Original", "Wavelet"])])
def test_where_the_numbers_are_computed_is_no_difference(asked: Settings) -> None:
    assert merged(BOTH, asked.on("gpu")) == merged(BOTH, asked)
