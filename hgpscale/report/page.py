"""The page that lists every lesion of a cohort: one HTML file that needs nothing but the pictures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from hgpscale.report.page_parts import SCRIPT, STYLE
from hgpscale.report.tables import count_of, one_line

if TYPE_CHECKING:
    from hgpscale.report.looking import LesionLook

MARK = '<meta name="generator" content="hgpscale check --figures">'
"""By which a page of ours is known, which may be written anew."""

_COLUMNS = (
    ("", ""),
    ("lesion", "Lesion"),
    ("patient", "Patient"),
    ("centre", "Centre"),
    ("raters", "Raters"),
    ("volume", "Volume, mL"),
    ("spread", "Max / min volume"),
    ("dice", "Dice, lowest (mean)"),
    ("p5", "HU 5 %"),
    ("p50", "HU 50 %"),
    ("p95", "HU 95 %"),
    ("size", "Size, mm"),
    ("slices", "Slices"),
    ("spacing", "Voxel, mm"),
    ("warnings", "Warnings"),
)
_TEXT = ("lesion", "patient", "centre")


def page(source: str, looks: Sequence[LesionLook]) -> str:
    """Return the page as HTML; every name in it is escaped.

    Parameters
    ----------
    source
        The manifest, for the title.
    looks
        One a lesion, in the order of the page.

    """
    raters = dict.fromkeys(rater for look in looks for rater in look.volumes)
    counts = (
        count_of(len({look.patient for look in looks}), "patient"),
        count_of(len(looks), "lesion"),
        count_of(len(raters), "rater"),
        count_of(sum(bool(look.warnings) for look in looks), "lesion with warnings", "lesions with warnings"),
        count_of(sum(bool(look.failures) for look in looks), "lesion with failures", "lesions with failures"),
    )
    head = "".join(
        f'<th scope="col" data-key="{key}"{_kind(key)}><button type="button">{escape(title)}</button></th>'
        if key
        else '<th scope="col">Picture</th>'
        for key, title in _COLUMNS
    )
    # Columns that this cohort has nothing for would push the warnings off the screen.
    filled = {"centre": any(k.centre for k in looks), "dice": any(k.dice is not None for k in looks)}
    filled["spread"] = any(look.spread is not None for look in looks)
    style = STYLE + "".join(f"[data-key={key}] {{ display: none }}\n" for key, any_ in filled.items() if not any_)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Lesions of {_text(source)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{_text(source)}</h1>
<p>{" · ".join(counts)}</p>
<label>Filter <input id="filter" type="search" placeholder="lesion, rater, warning …"></label>
<output id="shown"></output>
</header>
{_failed(looks)}
<div class="wide"><table id="lesions">
<thead><tr>{head}</tr></thead>
<tbody>
{"".join(_row(look) for look in looks)}</tbody>
</table></div>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _kind(key: str) -> str:
    return ' class="text"' if key in _TEXT else ""


def _text(value: object) -> str:
    return escape(one_line(value))


def _failed(looks: Sequence[LesionLook]) -> str:
    items = "".join(f"<li><b>{_text(k.lesion)}</b> {_text(reason)}</li>" for k in looks for reason in k.failures)
    return f'<section id="failed"><h2>Not read</h2><ul>{items}</ul></section>' if items else ""


def _row(look: LesionLook) -> str:
    raters = ", ".join(f"{rater} {volume / 1000:.3g}" for rater, volume in look.volumes.items())
    volume = next(iter(look.volumes.values())) / 1000 if look.volumes else None
    notes = [f'<li class="bad">{_text(text)}</li>' for text in look.failures]
    notes += [f"<li>{_text(text)}</li>" for text in look.warnings]
    agreement = "" if look.dice is None else f"{look.dice:.3f} ({look.mean_dice:.3f})"
    p5, p50, p95 = look.hu or (None, None, None)
    name = _text(look.lesion)
    link = escape(quote(look.picture))
    image = f'<a href="{link}"><img src="{link}" loading="lazy" width="168" height="70" alt="{name}"></a>'
    cells = (
        ("lesion", look.lesion, _text(look.lesion)),
        ("patient", look.patient, _text(look.patient)),
        ("centre", look.centre, _text(look.centre)),
        ("raters", len(look.volumes), _text(raters) if len(look.volumes) > 1 else _text(", ".join(look.volumes))),
        ("volume", volume, "" if volume is None else f"{volume:.3f}"),
        ("spread", look.spread, "" if look.spread is None else f"{look.spread:.2f}"),
        ("dice", look.dice, agreement),
        *((key, p, "" if p is None else f"{p:.0f}") for key, p in (("p5", p5), ("p50", p50), ("p95", p95))),
        ("size", max(look.size) if look.size else None, _steps(look.size, ".0f")),
        ("slices", look.slices, "" if look.slices is None else str(look.slices)),
        ("spacing", max(look.spacing) if look.spacing else None, _steps(look.spacing, ".3g")),
        ("warnings", len(notes), f"<ul>{''.join(notes)}</ul>" if notes else ""),
    )
    titles = dict(_COLUMNS)
    shown = "".join(
        f'<td{_kind(key)} data-key="{key}" data-title="{titles[key]}" '
        f'data-value="{"" if value is None else escape(str(value))}">{html}</td>'
        for key, value, html in cells
    )
    return f'<tr><td class="picture">{image if look.picture else "no picture"}</td>{shown}</tr>\n'


def _steps(values: tuple[float, float, float] | None, form: str) -> str:
    return " × ".join(format(value, form) for value in values) if values else ""  # noqa: RUF001
