"""Templates of pages, into which text goes escaped."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from hgpscale.report.tables import one_line

if TYPE_CHECKING:
    from jinja2 import Environment


def template(name: str) -> Any:
    """Return a template of this package; whatever is put into it is escaped, unless it is markup already."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hgpscale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.finalize = _finalized
    return environment


def _finalized(value: Any) -> Any:
    """Show control characters of names as escapes, and keep numbers with their signs on a line; HTML stays as it is."""
    if type(value) is not str:
        return value
    return re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<] \d)|(?<=\bp [=<]) (?=\d)", "\N{NO-BREAK SPACE}", one_line(value))
