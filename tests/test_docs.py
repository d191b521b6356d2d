"""What the documentation says: commands, options, links, the order of imports, and messages word for word."""

from __future__ import annotations

import ast
import doctest
import os
import re
import shlex
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer.main
from bad_inputs import ROWS, BadRow, box, ct, write

from hgpscale.cli import app
from hgpscale.engine.tasks import LesionTask, ScanTask, extract_prepared, read_scan
from hgpscale.record import Record
from hgpscale.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TABLE_ROW = re.compile(r"\| (.+?) \| (\w+) \| (.+) \|")


def header_field(offset: int, form: str, *values: float) -> Callable[[Path], Path]:
    """Return what makes a NIfTI-1 image with one header field changed; offsets are those of nifti1.h."""

    def make(folder: Path) -> Path:
        path = write(folder / "image.nii", ct())
        content = bytearray(path.read_bytes())
        struct.pack_into(form, content, offset, *values)
        path.write_bytes(content)
        return path

    return make


def unreadable(folder: Path) -> Path:
    path = write(folder / "image.nii", ct())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    return path


# SimpleITK writes x and y with a minus, as NIfTI's axes point the other way.
MORE_ROWS = (
    BadRow("no permission to read", "read", "", image=unreadable),
    BadRow("infinite pixdim", "read", "", image=header_field(84, "<f", float("inf"))),
    BadRow("negative pixdim", "read", "", image=header_field(84, "<f", -1)),
    BadRow("qform and sform that disagree", "read", "", image=header_field(292, "<f", 100)),
    BadRow("skewed axes", "read", "", image=header_field(296, "<8f", 0, -1, 1.2, 0, 0, 0, 1.6, 0)),
    BadRow("intercept with scl_slope 0", "read", "", image=header_field(112, "<2f", 0, -1024)),
)


def extracted(bad: BadRow, folder: Path) -> Record:
    image = bad.image(folder) if bad.image else write(folder / "good.nii.gz", ct())
    mask = bad.mask(folder) if bad.mask else write(folder / "good-mask.nrrd", box())
    lesion = LesionTask("L", "default", str(mask), int(bad.label) if bad.label else None)
    (item,) = read_scan(ScanTask(str(image), (lesion,)), Settings())
    return extract_prepared(item, Settings())


def without_amounts(text: str) -> str:
    """Leave out what depends on the machine and on the versions of zlib and SimpleITK."""
    return re.sub(r"[\d.]+ (?=bytes|[KMGT]iB)|(?<=it holds )\d+", "", text)


@pytest.fixture(scope="module")
def documented() -> dict[str, tuple[str, str]]:
    """Return stage and message by the first column of the table of rows that fail."""
    table = (ROOT / "docs/errors.md").read_text().partition("What stops a run")[0]
    rows = [match.groups() for match in map(TABLE_ROW.fullmatch, table.splitlines()) if match]
    return {what: (stage, message) for what, stage, message in rows if stage != "stage"}


@pytest.mark.parametrize("bad", [*ROWS, *MORE_ROWS], ids=lambda bad: bad.name)
def test_a_failed_row_has_the_documented_message(
    bad: BadRow, documented: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    failure = extracted(bad, tmp_path).failure
    assert failure is not None
    message = re.sub(rf"{re.escape(str(tmp_path))}/[\w.-]+", "`path`", failure.reason)
    stage, expected = documented[bad.name]
    assert (failure.stage, without_amounts(message)) == (stage, without_amounts(expected))


def test_every_documented_failure_is_made_here(documented: dict[str, tuple[str, str]]) -> None:
    assert set(documented) == {bad.name for bad in (*ROWS, *MORE_ROWS)}


def test_a_constant_region_has_values(tmp_path: Path) -> None:
    flat = BadRow("constant", "", "", image=lambda folder: write(folder / "flat.nii", ct() * 0 + 40))
    record = extracted(flat, tmp_path)
    assert (len(record.values), record.failures) == (7, {})


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text()
        for found in re.findall(r"^\$ (hgpscale .+)$|`(hgpscale [^`]+)`", text, re.MULTILINE):
            yield page.name, " ".join("".join(found).split())


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_every_command_exists_with_its_options(page: str, line: str) -> None:
    group = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    if words[0].startswith("-"):
        assert words[0] in {option for parameter in group.params for option in parameter.opts} | {"--help", "-h"}
        return
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    if hasattr(command, "commands") and len(words) > 1:  # deep: one of its own
        words = words[1:]
        command = command.commands[words[0]]
    context = command.make_context(words[0], words[1:], resilient_parsing=True)
    assert context.args == []
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words[1:] if word.startswith("-")} <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / link).exists(), link


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the parts of hgpscale that code imports, whatever is only for type checkers aside."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom) and node.module:
        top, *below = node.module.split(".")
        if top == "hgpscale":
            yield from below[:1] or [alias.name for alias in node.names]
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


def test_imports_go_the_documented_way() -> None:
    (block,) = re.findall(r"^```imports\n(.+?)^```", (ROOT / "docs/architecture.md").read_text(), re.M | re.S)
    level = {part: number for number, line in enumerate(block.splitlines()) for part in line.split()}
    package = ROOT / "hgpscale"
    files = {path: path.relative_to(package).with_suffix("").parts[0] for path in package.rglob("*.py")}
    assert set(files.values()) - {"__init__", "__main__", "_version"} == set(level)
    for path, part in files.items():
        if part in level:
            below = set(imported(ast.parse(path.read_text()))) - {part, "_version"}
            assert [other for other in below if level[other] >= level[part]] == [], path


def test_the_readme_s_session_gives_what_it_shows() -> None:
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried == 6
    assert not failed
