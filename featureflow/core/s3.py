"""The client for ``s3://``: obstore, with the credentials that the AWS tools would use.

Credentials, region and endpoint come from the environment (``AWS_*``) or a profile of ``~/.aws``, in this process, when
they are needed. They are never part of a URL, and nothing that is pickled or written down holds them.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from featureflow.core.errors import SourceError, Unreachable
from featureflow.core.urls import WHERE_THEY_BELONG, has_credentials

if TYPE_CHECKING:
    from obstore.store import S3Store

#: So long a request is repeated while the store does not answer or says 5xx: longer than a restart of a server takes.
PATIENCE = timedelta(seconds=40)
#: A store that never answered this process gets less: its URL or endpoint may be wrong.
FIRST = timedelta(seconds=25)
#: After a store was given up, requests to it get only so long, for this many seconds: a build that ends because the
#: store is dead must not wait again for each thing that it does at its end.
BRIEF, _DEAD_FOR = timedelta(seconds=2), 60.0
_CONNECT, _REQUEST = "5s", "30s"
_PAUSE = 0.2  # seconds between attempts over connections that break
_REFRESH = timedelta(minutes=10)
_DEFAULT_REGION = "us-east-1"
_SCHEMES = ("s3://", "s3a://")

Answer = TypeVar("Answer")


def is_s3(url: str) -> bool:
    """Whether the URL is of an S3 store."""
    return url.startswith(_SCHEMES)


def split(url: str) -> tuple[str, str]:
    """Bucket and key of a URL; SourceError if it carries credentials."""
    if has_credentials(url):
        raise SourceError(f"s3://: {WHERE_THEY_BELONG}")
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


@dataclass(frozen=True, slots=True)
class Account:
    """Where a bucket is and who asks; exists in this process only."""

    region: str
    endpoint: str | None
    credentials: Any = field(repr=False)

    @property
    def allow_http(self) -> bool:
        """Whether the endpoint was given without TLS."""
        return (self.endpoint or "").startswith("http://")

    def frozen(self) -> dict[str, Any]:
        """The credentials of now, as obstore wants them."""
        now = self.credentials.get_frozen_credentials()
        refreshed = self.credentials.method not in ("env", "shared-credentials-file", "config-file")
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _REFRESH if refreshed else None,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be pickled: credentials stay in the process that found them."""
        raise TypeError("credentials are not pickled; each process finds its own")


_lock = threading.Lock()
_accounts: dict[int, Account] = {}
_stores: dict[tuple[int, str, timedelta], Any] = {}
_given_up: dict[str, float] = {}
_answered: set[str] = set()
_process = 0  # that started the client's threads; a forked child has none of them


def usable(url: str) -> bool:
    """Whether this client serves the URL here.

    Not in a process that was forked from one that used it: its threads are not there, and a request would wait
    forever. Not for keys with empty parts (``a//b``), which it can't spell. Both are served by s3fs.
    """
    return is_s3(url) and _process in (0, os.getpid()) and "//" not in split(url)[1]


def _environment() -> int:
    """Changes when the environment that accounts come from does."""
    return hash(frozenset((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))


def account() -> Account:
    """Find credentials, region and endpoint as the AWS tools do; instance, container and SSO roles included.

    Raises
    ------
    SourceError
        If s3fs and obstore are not installed, or the profile does not exist.
    """
    state = _environment()
    with _lock:
        if state not in _accounts:
            _accounts[state] = _find_account()
        return _accounts[state]


def _find_account() -> Account:
    try:
        import obstore  # noqa: F401
        import s3fs  # noqa: F401
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise SourceError(f"s3://: pip install 'featureflow[s3]' serves such URLs ({error}).") from error
    session = Session()
    try:
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region") or _DEFAULT_REGION
        return Account(str(region), _endpoint(session), session.get_credentials())
    except BotoCoreError as error:
        raise SourceError(
            f"s3://: no credentials: {error}. Name a profile of ~/.aws/config by AWS_PROFILE, or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error


def _endpoint(session: Any) -> str | None:
    given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if given:
        return given
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    found = services.get("s3", {}).get("endpoint_url") or profile.get("endpoint_url")
    return str(found) if found else None


def connect(url: str) -> tuple[S3Store, str]:
    """The client of a URL's bucket, and the key."""
    global _process  # noqa: PLW0603  one set of threads a process
    bucket, key = split(url)
    found = account()
    wait = patience(url)
    at = (_environment(), bucket, wait)
    with _lock:
        if at not in _stores:
            _process = os.getpid()
            _stores[at] = _store(bucket, found, wait)
        return _stores[at], key


def patience(url: str) -> timedelta:
    """How long requests to this store are repeated: brief while it is known to be dead."""
    place = _place(url)
    if time.monotonic() - _given_up.get(place, -_DEAD_FOR) < _DEAD_FOR:
        return BRIEF
    return PATIENCE if place in _answered else min(FIRST, PATIENCE)


def answered(url: str) -> None:
    """Remember that the store is alive."""
    place = _place(url)
    _answered.add(place)
    _given_up.pop(place, None)


def _store(bucket: str, found: Account, patience: timedelta) -> S3Store:
    from obstore.store import S3Store

    options: dict[str, Any] = {"region": found.region}
    if found.endpoint:
        options["endpoint"] = found.endpoint
    provider: Callable[[], dict[str, Any]] | None = found.frozen if found.credentials else None
    if provider is None:
        options["skip_signature"] = True  # a public bucket
    return S3Store(
        bucket,
        config=options,  # type: ignore[arg-type]
        client_options={"allow_http": found.allow_http, "connect_timeout": _CONNECT, "timeout": _REQUEST},
        retry_config={
            "max_retries": 1000,  # the time decides
            "retry_timeout": patience,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=3),
                "base": 2,
            },
        },
        credential_provider=provider,  # type: ignore[arg-type]
    )


def fsspec_options(url: str) -> dict[str, Any]:
    """What s3fs needs besides the URL: region and endpoint. It finds the credentials itself, where we do."""
    if not is_s3(url):
        return {}
    found = account()
    more = {"anon": True} if not found.credentials else {}
    where = {"region_name": found.region} | ({"endpoint_url": found.endpoint} if found.endpoint else {})
    # we repeat what fails, as long as for every request; its own pauses would come on top
    client = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 30}
    return {"client_kwargs": where, "config_kwargs": client, **more}


def delta_options(url: str) -> dict[str, str]:
    """Options that delta-rs needs to open a table; with credentials, so they are for the call and no record."""
    if not is_s3(url):
        return {}
    found = account()
    options = {"aws_region": found.region, "timeout": _REQUEST, "connect_timeout": _CONNECT}
    if found.endpoint:
        options |= {"aws_endpoint_url": found.endpoint, "aws_allow_http": str(found.allow_http).lower()}
    if not found.credentials:
        return options | {"aws_skip_signature": "true"}
    now = found.frozen()
    options |= {"aws_access_key_id": now["access_key_id"], "aws_secret_access_key": now["secret_access_key"]}
    return options | ({"aws_session_token": now["token"]} if now["token"] else {})


# ---------------------------------------------------------------- what errors mean


def _place(url: str) -> str:
    return f"{os.environ.get('AWS_ENDPOINT_URL', '')} {split(url)[0]}"


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Turn what the client raises into errors that mean something to the user.

    Raises
    ------
    FileNotFoundError, FileExistsError
        As the store says.
    SourceError
        For a bucket that does not exist, and for missing permission.
    Unreachable
        If the store did not answer, or could not do it, for as long as requests are repeated.
    """
    from obstore import exceptions

    try:
        yield
        answered(url)
    except FileNotFoundError as error:
        answered(url)
        if "NoSuchBucket" in str(error):
            raise SourceError(_no_bucket(url)) from None
        raise
    except FileExistsError:
        raise
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise SourceError(_denied(url, error)) from None
    except exceptions.BaseError as error:
        text = str(error)
        if "NoSuchBucket" in text:
            raise SourceError(_no_bucket(url)) from None
        if re.search(r"status code: (401|403)\b", text):
            raise SourceError(_denied(url, error)) from None
        if isinstance(error, exceptions.PreconditionError):
            raise
        _given_up[_place(url)] = time.monotonic()
        raise Unreachable(f"{url}: the store can't be reached: {said(error)}") from None


def insist(url: str, ask: Callable[[], Answer]) -> Answer:
    """Repeat a request whose connection broke, for as long as the client repeats those that were refused.

    The client gives up where an answer breaks off in its middle, and where a change may have been done. ``ask`` must
    be something that may be done twice.
    """
    from obstore.exceptions import GenericError

    until = time.monotonic() + patience(url).total_seconds()
    while True:
        try:
            return ask()
        except GenericError as error:
            if "HTTP error" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(_PAUSE)


def listing(url: str, ask: Callable[[], Answer]) -> Answer:
    """Repeat a listing of s3fs, which gives up after some seconds, for as long as other requests are repeated."""
    until = time.monotonic() + patience(url).total_seconds()
    while True:
        try:
            found = ask()
        except (FileNotFoundError, PermissionError):
            answered(url)
            raise
        except OSError:
            if time.monotonic() > until:
                raise
        except Exception as error:
            # botocore's own errors of a connection have no base that is in the standard library
            if time.monotonic() > until or "onnect" not in type(error).__name__:
                raise
        else:
            answered(url)
            return found
        time.sleep(1)


def _no_bucket(url: str) -> str:
    return f"{url}: there is no bucket {split(url)[0]!r}. Create it, or check the URL and AWS_ENDPOINT_URL."


def _denied(url: str, error: BaseException) -> str:
    return f"{url}: permission denied ({said(error)}). Check the credentials of this store."


def said(error: BaseException) -> str:
    """The first line of what the client said, with the store's own code if it gave one."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>(?:\s*<Message>([^<]*)</Message>)?", text)
    first = (text.splitlines() or [type(error).__name__])[0]
    first = first.partition(" - Server returned non-2xx status code")[0] if code else first
    first = re.sub(r"^Generic S3 error: |, max_retries: \d+, retry_timeout: \w+", "", first)
    return f"{first}: {code[1]}: {code[2]}" if code else first
