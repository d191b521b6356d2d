import numpy as np
import pytest

from hgpscale.contents import Key
from hgpscale.cube.by_row import Digests, Missing, mask_of, rows_at

LABELS = {"lesion": {"a": 0, "b": 1, "c": 2}, "segmentation": {"RAD": 0, "AI": 1}}
KEYS: list[Key] = [("lesion", "original", "shape"), ("lesion", "original", "glcm")]
LACKS = np.array([[[True, True], [False, False]], [[False, True], [True, True]]])  # of a and b


def missing() -> Missing:
    found = Missing(LABELS, (3, 2), KEYS)
    found.note(slice(0, 2), LACKS)
    return found


def test_what_rows_lack_reads_like_a_dict_in_the_cubes_order() -> None:
    expected = {("a", "RAD"): tuple(KEYS), ("b", "RAD"): (KEYS[1],), ("b", "AI"): tuple(KEYS)}
    assert missing() == expected
    assert list(missing()) == list(expected)
    assert (len(missing()), missing().total()) == (3, 5)


@pytest.mark.parametrize("row", [("a", "AI"), ("c", "RAD"), ("d", "RAD"), ("a", "other")])
def test_a_row_that_lacks_nothing_or_is_unknown_is_not_in_it(row: tuple[str, str]) -> None:
    assert row not in missing()
    assert missing().get(row) is None
    with pytest.raises(KeyError):
        missing()[row]


def test_a_row_that_is_done_is_forgotten() -> None:
    found = missing()
    found.forget(("b", "AI"))
    assert list(found) == [("a", "RAD"), ("b", "RAD")]
    assert found.total() == 3


def test_rows_that_lack_the_same_share_one_tuple() -> None:
    found = missing()
    assert found["a", "RAD"] is found["b", "AI"]


def test_nothing_can_be_missing_where_nothing_is_asked_for() -> None:
    found = Missing(LABELS, (3, 2), [])
    found.note(slice(0, 3), np.zeros((3, 2, 0), bool))
    assert (dict(found), found.total()) == ({}, 0)


def test_rows_and_their_cells_are_each_others_inverse() -> None:
    rows = [("c", "RAD"), ("a", "AI")]
    mask = mask_of(LABELS, rows, (3, 2))
    assert list(rows_at(LABELS, mask)) == sorted(rows)
    assert not mask_of(LABELS, [], (3, 2)).any()


def test_digests_are_of_rows_with_numbers_only() -> None:
    texts = [np.array([[f"{name}{i}{j}" for j in range(2)] for i in range(3)], object) for name in "ims"]
    found = Digests(LABELS, mask_of(LABELS, [("b", "AI")], (3, 2)), texts)
    assert found == {("b", "AI"): ("i11", "m11", "s11")}
