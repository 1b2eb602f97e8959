"""Small objects and ranges of bytes, many at a time."""

from __future__ import annotations

from collections.abc import Sequence

from featureflow.core.errors import FeatureflowError, Unreachable
from featureflow.core.meter import counted, spent
from featureflow.core.storage import filesystem, is_local, read_bytes

#: Attempts for a request that fails otherwise than by "not there".
ATTEMPTS = 3


def read_all(urls: Sequence[str]) -> list[bytes]:
    """Read whole files or objects; those of a store in parallel.

    Raises
    ------
    FileNotFoundError
        If one is not there.
    Unreachable
        If the store does not answer.
    """
    if all(is_local(url) for url in urls):
        return [read_bytes(url) for url in urls]
    found = []
    for url, data in zip(urls, _read([(url, 0, None) for url in urls]), strict=True):
        if data is None:
            raise FileNotFoundError(url)
        found.append(data)
    return found


def read_tails(urls: Sequence[str], sizes: Sequence[int]) -> list[bytes | None]:
    """The last bytes of each object (all of it, if it is shorter); None for one that is not there."""
    return _read([(url, -size, None) for url, size in zip(urls, sizes, strict=True)])


def read_ranges(ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Bytes of (URL, start, length), in parallel; None for an object that is not there.

    Raises
    ------
    Unreachable
        If the store does not answer.
    """
    return _read([(url, start, start + length) for url, start, length in ranges])


def _read(ranges: Sequence[tuple[str, int, int | None]]) -> list[bytes | None]:
    found: list[bytes | None] = [None] * len(ranges)
    left = list(range(len(ranges)))
    for attempt in range(ATTEMPTS):
        if not left:
            break
        failed = []
        with spent("exchange:store"):
            counted("exchange requests", len(left))
            answers = _ask([ranges[i] for i in left])
        for i, answer in zip(left, answers, strict=True):
            if isinstance(answer, FileNotFoundError):
                continue
            if not isinstance(answer, Exception):
                found[i] = answer
            elif attempt + 1 == ATTEMPTS:
                if isinstance(answer, FeatureflowError):
                    raise answer
                raise Unreachable(
                    f"{ranges[i][0]}: the store can't be reached: {type(answer).__name__}: {answer}"
                ) from answer
            else:
                failed.append(i)
        left = failed
    return found


def _ask(ranges: Sequence[tuple[str, int, int | None]]) -> list[bytes | Exception]:
    fs, _ = filesystem(ranges[0][0])
    paths = [filesystem(url)[1] for url, _, _ in ranges]
    starts, ends = [start for _, start, _ in ranges], [end for _, _, end in ranges]
    try:
        answers = fs.cat_ranges(paths, starts, ends, on_error="return")
    except Exception as error:  # noqa: BLE001  clients raise what they like; see `featureflow.core.storage`
        return [error] * len(ranges)
    return [answer if isinstance(answer, Exception) else bytes(answer) for answer in answers]
