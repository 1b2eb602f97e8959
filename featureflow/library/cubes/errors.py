"""What went wrong with a file or store of arrays, in words that name the source and the place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from featureflow.core.errors import CorruptionError, FeatureflowError, SourceError, Unreachable
from featureflow.core.storage import is_local


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__


@contextmanager
def opening(where: str, url: str, what: str) -> Iterator[None]:
    """Name the source in every error of opening it.

    Raises
    ------
    SourceError
        If it is not there, or is not of the format.
    Unreachable
        If the store does not answer.
    """
    try:
        yield
    except FeatureflowError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{where}: nothing is there. Relative paths start at the spec's folder.") from error
    except PermissionError as error:
        raise SourceError(f"{where}: permission denied.") from error
    except MemoryError:
        raise
    except Exception as error:
        # decoders raise OSError, too, but without a number of the system's
        network = isinstance(error, OSError) and (error.errno is not None or isinstance(error, TimeoutError))
        if network and not is_local(url):
            raise Unreachable(f"{where}: {_said(error)}") from error
        raise SourceError(
            f"{where}: can't be opened as {what}: {_said(error)}. Check the format and path, or repair the file."
        ) from error


@contextmanager
def values_of(where: str, url: str, name: str, cut: tuple[slice, ...]) -> Iterator[None]:
    """Name the source, variable and region in every error of reading values; damaged bytes are never NaN.

    Raises
    ------
    CorruptionError
        If what is stored can't be decoded.
    SourceError
        If it is gone.
    Unreachable
        If the store does not answer.
    """
    try:
        yield
    except (FeatureflowError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{where}: is gone; it was there when the source was opened.") from error
    except PermissionError as error:
        raise SourceError(f"{where}: permission denied.") from error
    except Exception as error:
        if isinstance(error, ConnectionError | TimeoutError) and not is_local(url):
            raise Unreachable(f"{where}: {_said(error)}") from error
        region = ", ".join(f"{part.start}:{part.stop}" for part in cut)
        raise CorruptionError(
            f"{where}: variable {name!r}, region [{region}]: what is stored can't be decoded: {_said(error)}. "
            "Restore the file from a copy, or write this part of the source again."
        ) from error
