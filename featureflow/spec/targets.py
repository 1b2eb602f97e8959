"""The typed spec of `targets:`: where a build runs, and where its tables go. Nothing here can change a value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from featureflow.core.sizes import parse_bytes
from featureflow.spec.duration_fields import PositiveDuration
from featureflow.spec.fields import SpecModel, Text, Url

_SIZE_PATTERN = r"^\d+(\.\d+)?\s*([kKMGT]i?)?[bB]?$"
_CLASS_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
#: names of keywords whose values nobody should read in a file
_SECRET = re.compile(
    r"token|passw|secret|credential|api_?key|access_?key|private_?key|account_?key", re.IGNORECASE
)
_IN_URL = re.compile(r"://[^/\s:@]+:[^/\s@]+@")


def _bytes(given: Any) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    try:
        return 0 if str(given).strip() == "0" else parse_bytes(given)
    except ValueError:
        raise ValueError(f"must be a number of bytes such as 500GB; got {given!r}.") from None


def _memory(given: Any) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    try:
        parse_bytes(given)
    except ValueError:
        raise ValueError(f"must be an amount of memory such as 8GB or 512MiB; got {given!r}.") from None
    return str(given)


def _class(given: Any) -> str:
    if not isinstance(given, str) or not re.fullmatch(_CLASS_PATTERN, given):
        raise ValueError(
            f"must be the full name of a class such as dask_jobqueue.SLURMCluster; got {given!r}."
        )
    return given


class Adaptive(SpecModel):
    """How many workers an adaptive cluster has: more while tasks wait, fewer when they don't."""

    minimum: Annotated[int, Field(ge=0)] = 0
    maximum: Annotated[int, Field(ge=1)]


class Tls(SpecModel):
    """Files in PEM format, as Dask's own configuration has them."""

    ca: Text = Field(description="Certificate of the authority that signed the scheduler's.")
    cert: Text | None = Field(default=None, description="Our own certificate.")
    key: Text | None = Field(default=None, description="Its private key.")


class Cluster(SpecModel):
    """A cluster that the build starts and stops: a class, and its keywords beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    class_: Annotated[
        str, BeforeValidator(_class), WithJsonSchema({"type": "string", "pattern": _CLASS_PATTERN})
    ] = Field(alias="class", description="Full name, such as dask_jobqueue.SLURMCluster.")

    @property
    def keywords(self) -> dict[str, Any]:
        """What the class is called with."""
        return dict(self.model_extra or {})


class Target(SpecModel):
    """Where one `--target` runs; what is omitted comes from the project or the command line."""

    store: Url | None = None
    scheduler: Text | None = Field(
        default=None, description="local, threads, or the URL of a Dask scheduler."
    )
    cluster: Cluster | None = Field(default=None, description="A cluster to start; in place of `scheduler`.")
    adaptive: Adaptive | None = Field(
        default=None, description="`{minimum: 0, maximum: 40}` workers; in place of `workers`."
    )
    workers: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = Field(default=None, description="For each worker.")
    memory: (
        Annotated[
            str,
            BeforeValidator(_memory),
            WithJsonSchema({"type": ["string", "integer"], "pattern": _SIZE_PATTERN}),
        ]
        | None
    ) = Field(default=None, description="For each worker, such as 8GB.")
    scratch: Text | None = Field(default=None, description="Folder on a fast local disk.")
    cache: (
        Annotated[
            int,
            PlainValidator(_bytes),
            WithJsonSchema({"type": ["string", "integer"], "pattern": _SIZE_PATTERN}),
        ]
        | None
    ) = Field(default=None, description="Bytes of raw data that a host keeps on its scratch; 0 for none.")
    exchange: Literal["local", "shared", "store"] | None = Field(
        default=None,
        description="Where slices wait between tasks: the host's scratch, a shared one, the store.",
    )
    tls: Tls | None = Field(default=None, description="Files for an encrypted connection.")
    insecure: bool = Field(
        default=False, description="Whether a scheduler on another host may be talked to without TLS."
    )
    wait: PositiveDuration | None = Field(
        default=None, description="How long to wait for the first worker, such as 10m."
    )


def is_secret(key: str, value: str) -> bool:
    """Whether a text is likely to be a secret: by the name of its keyword, or a password in a URL."""
    return bool(_SECRET.search(key) or _IN_URL.search(value))


def written_secrets(raw: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Places in ``targets:`` where a secret seems to be written down, with what to do.

    Parameters
    ----------
    raw
        The document as written, variables not replaced.
    """
    targets = raw.get("targets") if isinstance(raw, dict) else None
    for name, target in targets.items() if isinstance(targets, dict) else ():
        for place, value in _leaves(target, ("targets", name)):
            if not isinstance(value, str) or "${" in value:
                continue
            key = next((str(step) for step in reversed(place) if isinstance(step, str)), "")
            if is_secret(key if place[2:3] == ("cluster",) else "", value):
                variable = re.sub(r"\W", "_", key).upper()
                yield place, f"looks like a secret. Keep it in the environment and write ${{{variable}}}."


def _leaves(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(below, (*place, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _leaves(below, (*place, index))
    else:
        yield place, value
