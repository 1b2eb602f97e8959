"""A real SLURM cluster of one node on this machine: munged, slurmctld and slurmd of Debian's packages, as root.

    with start_slurm(tmp_path) as slurm:      # sets SLURM_CONF for sbatch and the like
        slurm.run("sinfo")

All of its files, ports and processes are its own; a SLURM that runs on the machine is not touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clusters.hosts import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")

_CONFIGURATION = """
ClusterName=featureflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=16000
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """What has to be installed: apt-get install slurmctld slurmd slurm-client munge."""
    return [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]


@dataclass
class Slurm:
    """A running cluster."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Output of a SLURM command."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    def jobs(self) -> list[str]:
        """Ids of jobs that run, the oldest first."""
        return sorted(self.run("squeue", "-h", "-t", "R", "-o", "%i").split(), key=int)


@contextmanager
def start_slurm(folder: Path) -> Iterator[Slurm]:
    """Start it, wait until its node takes jobs, and end it with all its jobs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    text = _CONFIGURATION.format(host=host, folder=folder, ctld_port=free_port(), slurmd_port=free_port())
    configuration.write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    environment["PATH"] = f"{environment['PATH']}:/usr/sbin:/sbin"
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--log-file={folder}/munged.log", f"--pid-file={folder}/munged.pid"]
    munged += [f"--seed-file={folder}/munged.seed", "--num-threads=2"]
    commands = [munged, ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]]
    started: list[subprocess.Popen[bytes]] = []
    slurm = Slurm(folder, environment)
    before = os.environ.get("SLURM_CONF")
    try:
        for command in commands:
            log = (folder / f"{command[0]}.out").open("ab")
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            log.close()
            if command is munged:
                _wait(lambda: (folder / "munge.socket").exists(), started, folder)
        os.environ["SLURM_CONF"] = str(configuration)
        _wait(lambda: "idle" in slurm.run("sinfo", "-h", "-o", "%t"), started, folder)
        yield slurm
        slurm.run("scancel", "--user=root")
        _wait(lambda: not slurm.run("squeue", "-h").strip(), started, folder)
    finally:
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def _wait(ready: object, started: list[subprocess.Popen[bytes]], folder: Path, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            if ready():  # type: ignore[operator]
                return
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pass
        ended = [process.args for process in started if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.out"))
            raise RuntimeError(f"SLURM does not start ({ended}): {logs}")
        time.sleep(0.2)
