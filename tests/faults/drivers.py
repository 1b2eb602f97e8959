"""Drivers to be killed: processes that are forked from one that has imported everything, so that each starts at once.

with Drivers(tmp_path / "zygote.log") as drivers:
    driver = drivers.start("faults.small_build:build", [spec, store, scratch])
    assert driver.wait() == 0          # or -9
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).parents[1]

#: What a build imports on its way; nothing of it starts threads, so a fork is safe.
_ZYGOTE = """
import importlib, json, os, pkgutil, sys, traceback
sys.path.insert(0, {tests!r})
import deltalake, fsspec, polars, pyarrow.dataset, pyarrow.parquet, s3fs, botocore.session
import featureflow
for module in pkgutil.walk_packages(featureflow.__path__, "featureflow."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # of an extra
            if error.name.startswith("featureflow"):
                raise
import faults.small_build
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1); os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = 1
        try:
            os.environ.update(asked["env"])
            module, _, name = asked["call"].partition(":")
            result = getattr(importlib.import_module(module), name)(*asked["arguments"], **asked["options"])
            with open(asked["log"] + ".result", "w") as file:
                json.dump(result, file)
            code = 0
        except featureflow.FeatureflowError as error:
            print("exit", error.exit_code, type(error).__name__, error, flush=True)
            code = error.exit_code
        except BaseException:
            traceback.print_exc()
            code = 99
        finally:
            sys.stdout.flush(); sys.stderr.flush()
            os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Driver:
    """One forked process."""

    def __init__(self, zygote: subprocess.Popen[str], log: Path) -> None:
        self._zygote, self.log = zygote, log
        assert zygote.stdout is not None
        self.pid = int(zygote.stdout.readline())

    def wait(self) -> int:
        """Its exit code; minus the signal that killed it."""
        assert self._zygote.stdout is not None
        return int(self._zygote.stdout.readline())

    @property
    def result(self) -> Any:
        """What the function gave back."""
        return json.loads(Path(f"{self.log}.result").read_text())

    @property
    def said(self) -> str:
        """What it printed; an error of ours begins with `exit <code>`, anything else is a traceback."""
        return self.log.read_text()


class Drivers:
    """The process that forks drivers, one at a time."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self._folder, self._n = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", _ZYGOTE.format(tests=str(TESTS))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def start(
        self, call: str, arguments: list[Any], env: dict[str, str] | None = None, **options: Any
    ) -> Driver:
        """Run `module:function(*arguments, **options)` in a new process."""
        self._n += 1
        log = self._folder / f"driver{self._n}.log"
        log.touch()
        asked = {"call": call, "arguments": arguments, "options": options, "env": env or {}, "log": str(log)}
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(asked) + "\n")
        self._zygote.stdin.flush()
        return Driver(self._zygote, log)

    def run(
        self, call: str, arguments: list[Any], env: dict[str, str] | None = None, **options: Any
    ) -> Driver:
        """The same, and wait until it has ended well."""
        driver = self.start(call, arguments, env, **options)
        code = driver.wait()
        assert code == 0, driver.said
        return driver

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.stdout.close()
        self._zygote.wait(60)
