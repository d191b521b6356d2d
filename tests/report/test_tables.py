"""Tables: nothing cut, nothing read as markup, nothing that controls the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
import rich.console

from hgpscale.report.tables import one_line, print_table

LONG = "[red]expected[/red] " + "many-words " * 30 + ":smile:"


def test_one_line_folds_space_and_escapes_control_characters() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("red \x1b[31m bell\x07") == r"red \x1b[31m bell\x07"
    assert one_line("Größe 肝") == "Größe 肝"


def test_plain_lines_are_whole_and_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("lesion", "problem"), [("L\t1", LONG)], title="two")
    assert capsys.readouterr().out == f"two\nlesion\tproblem\nL 1\t{one_line(LONG)}\n"


@pytest.mark.parametrize("width", [30, 80])
def test_a_terminal_gets_every_character(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = rich.console.Console

    def terminal(**options: Any) -> rich.console.Console:
        return console(file=stream, force_terminal=True, width=width, color_system=None, **options)

    monkeypatch.setattr(rich.console, "Console", terminal)
    print_table(("lesion", "problem"), [("L1", LONG)])
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    cells = [line.strip("│┃").split("│")[-1] for line in lines if line.startswith("│")]
    assert "".join("".join(cells).split()) == "".join(LONG.split())
