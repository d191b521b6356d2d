"""The file that names a cluster: a small YAML, checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from dask.utils import parse_timedelta
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from hgpscale.errors import SettingsError
from hgpscale.parameters import nearest

_MISSING = {
    "kind": "slurm, pbs, lsf or kubernetes",
    "workers": "a number, or a mapping with minimum and maximum",
    "workers.minimum": "a whole number",
    "workers.maximum": "a whole number",
    "tls.ca": "the path of the authority's certificate",
    "tls.certificate": "the path of a certificate",
    "tls.key": "the path of its key",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkerRange(_Part):
    """How many workers there shall be; where both numbers are one, that many are kept up."""

    minimum: StrictInt = Field(ge=0)
    maximum: StrictInt = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> WorkerRange:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum must be at most maximum, found {self.minimum} and {self.maximum}")
        return self


class Tls(_Part):
    """Certificates of scheduler, workers and client: three files, or made for this run alone."""

    temporary: StrictBool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Tls:
        files = (self.ca, self.certificate, self.key)
        if self.temporary == any(files) or (any(files) and not all(files)):
            raise ValueError("expected the word temporary, or the paths ca, certificate and key")
        return self


def _range_of(value: Any) -> Any:
    return {"minimum": value, "maximum": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _tls_of(value: Any) -> Any:
    if isinstance(value, str) and value != "temporary":
        raise ValueError("expected the word temporary, or the paths ca, certificate and key")
    return {"temporary": True} if value == "temporary" else value


class ClusterFile(_Part):
    """What a cluster file says.

    Attributes
    ----------
    path
        The file itself: messages name it, relative paths in it start from its folder.
    kind
        Whose jobs or pods the workers are.
    workers
        How many.
    tls, insecure
        How scheduler and workers talk, or that they may do so unencrypted.
    wait
        How long tasks may wait while there is no worker at all, such as ``24 hours``.
    options
        Passed to the class of dask-jobqueue or dask-kubernetes.

    """

    path: Path
    kind: Literal["slurm", "pbs", "lsf", "kubernetes"]
    workers: Annotated[WorkerRange, BeforeValidator(_range_of)]
    tls: Annotated[Tls | None, BeforeValidator(_tls_of)] = None
    insecure: StrictBool = False
    wait: StrictStr = "24 hours"
    options: dict[StrictStr, Any] = {}

    @field_validator("wait")
    @classmethod
    def _a_time(cls, value: str) -> str:
        try:
            parse_timedelta(value)
        except (ValueError, KeyError, TypeError):
            raise ValueError("expected a time with its unit, such as 24 hours") from None
        return value

    @model_validator(mode="after")
    def _not_both(self) -> ClusterFile:
        if self.insecure and self.tls is not None:
            raise ValueError("give tls or insecure: true, not both")
        return self

    def beside(self, path: str | Path) -> Path:
        """Return the absolute path of what the file names relative to its own folder."""
        return (self.path.absolute().parent / path).resolve()

    def refuse(self, reason: str) -> SettingsError:
        """Return the error that says why this file cannot be used."""
        return SettingsError(f"{self.path}: {reason}")


def parse(path: str | Path) -> ClusterFile:
    """Read and check a cluster file, not yet whether its kind can be started here.

    Raises
    ------
    SettingsError
        It cannot be read, is no YAML mapping, or a key is unknown, missing or has a value of the wrong kind.

    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the cluster file: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a YAML cluster file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise SettingsError(f"{path}: expected a mapping with kind and workers, found {found}")
    if "path" in content:
        raise SettingsError(f"{path}: unknown key 'path'{nearest('path', _keys(ClusterFile))}")
    try:
        return ClusterFile(path=Path(path), **{str(key): value for key, value in content.items()})
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_problem(error)}") from error


def _keys(model: type[BaseModel]) -> list[str]:
    return [name for name in model.model_fields if name != "path"]


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    parts = [str(part) for part in problem["loc"]]
    where = ".".join(parts)
    if problem["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"workers": WorkerRange, "tls": Tls}
        return f"unknown key {where!r}{nearest(parts[-1], _keys(models.get(parts[0], ClusterFile)))}"
    if problem["type"] == "missing":
        return f"{where} is missing, expected {_MISSING[where]}"
    reason = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "model_type":
        reason = f"expected {_MISSING[where]}" if where in _MISSING else "expected a mapping"
    found = "" if ", found" in reason or not parts else f", found {problem['input']!r}"
    return f"{where}: {reason}{found}" if where else reason
