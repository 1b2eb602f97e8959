"""Tasks that kill or stop their own process once, before or after their work; for workers that die in a given stage."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featureflow.execute.task import Task


@dataclass(frozen=True)
class Plan:
    """Which task dies: the first one of a function; the file ``mark`` says that it is done, ``seen`` what ran."""

    function: str
    how: str  # SIGKILL or SIGSTOP
    when: str  # before or after
    mark: str


def deadly(task: Task, plan: Plan) -> Task:
    """The task, which acts on the plan; what tasks share is only put in its place among the arguments themselves."""
    return replace(task, function=run, arguments=(plan, task.function, *task.arguments))


def run(plan: Plan, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do the work, and die if it is the time."""
    if plan.when == "before":
        die(plan, function.__name__)
    result = function(*arguments)
    if plan.when == "after":
        die(plan, function.__name__)
    return result


def slowly(began: str, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do the work, with time enough to be killed before and after it; ``began`` is a folder of who does."""
    Path(began, str(os.getpid())).touch()
    time.sleep(seconds / 2)
    result = function(*arguments)
    time.sleep(seconds / 2)
    return result


def die(plan: Plan, name: str) -> None:
    """Kill or stop this process, if no other did so before."""
    if name != plan.function:
        return
    try:
        Path(plan.mark).touch(exist_ok=False)
    except FileExistsError:
        return
    if plan.how == "SIGSTOP":
        subprocess.Popen(["sh", "-c", f"sleep 5; kill -CONT {os.getpid()}"], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(log: str, limit: int | None, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Do the work and write down that it is done; the process dies when so many are."""
    result = function(*arguments)
    with open(log, "ab", buffering=0) as file:
        file.write(b".")
    if limit is not None and os.path.getsize(log) >= limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
