"""The same build with its source and store on a local disk, and on S3: what the network costs.

    python tests/benchmarks/s3_builds.py [--rows 5000000] [--latency-ms 30]

SeaweedFS runs on the same machine and takes CPU of the same cores, so local builds are flattered. Requests and bytes
are counted by a proxy, in builds of their own that are not timed (without latency) or timed with it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import write_events
from benchmarks.measure import Run, run
from benchmarks.wide_windows import SPEC, WINDOWS, featureflow
from servers.fault_proxy import FaultProxy, Rule
from servers.seaweedfs import S3Server, environment_of, start_s3


def build(folder: Path, name: str, source: str, store: str, environment: dict[str, str]) -> Run:
    """Build with the command line into a fresh scratch folder of this name; again if it was used before."""
    spec = folder / f"{name}.yaml"
    spec.write_text(SPEC.format(source=source, windows=", ".join(WINDOWS)))
    command = [
        *featureflow(),
        "build",
        str(spec),
        "--store",
        store,
        "--scratch",
        str(folder / name),
        "--quiet",
    ]
    return run(command, environment=environment, log=folder / f"{name}.log")


def measure(rows: int, latency: float, folder: Path, server: S3Server) -> list[str]:
    """Build everything; the lines to print."""
    from featureflow.core import storage

    local = folder / "events"
    paths = write_events(local, rows, files=max(1, rows // 500_000))
    remote = server.url("events")
    with server.environment():
        for path in paths:
            storage.write_atomic(f"{remote}/{path.name}", path.read_bytes())
    lines = [
        f"{rows:,} events, {sum(path.stat().st_size for path in paths) / 1e6:.0f} MB in {len(paths)} files"
    ]

    def told(name: str, ran: Run, proxy: FaultProxy | None = None) -> None:
        counted = ""
        if proxy is not None:
            sent = sum(seen.sent for seen in proxy.log)
            kinds = ", ".join(f"{proxy.count(m)} {m}" for m in ("GET", "HEAD", "PUT") if proxy.count(m))
            moved = f"{proxy.bytes_received / 1e6:.0f} MB in, {sent / 1e6:.0f} MB out"
            counted = f"  {proxy.count()} requests ({kinds}), {moved}"
        lines.append(f"{name:34} {ran.wall:6.1f} s  {ran.cpu:6.1f} CPU s  {ran.peak / 1e6:6.0f} MB{counted}")
        print(lines[-1], flush=True)

    print(lines[0], flush=True)
    told("local disk", build(folder, "local", str(local), str(folder / "store"), {}))
    told("S3, no latency", build(folder, "s3", remote, server.url("store"), server.env))
    told("S3, nothing new", build(folder, "s3", remote, server.url("store"), server.env))
    for name, wait in (("S3, counted", 0.0), (f"S3, {latency:.0f} ms a request", latency / 1000)):
        with FaultProxy(server.endpoint) as proxy:
            proxy.add(Rule("latency", seconds=wait))
            short = f"proxied{wait}"
            told(name, build(folder, short, remote, server.url(short), environment_of(proxy.url)), proxy)
            proxy.clear()
            proxy.add(Rule("latency", seconds=wait))
            told(
                f"{name}, again",
                build(folder, short, remote, server.url(short), environment_of(proxy.url)),
                proxy,
            )
    return lines


def main(arguments: list[str] | None = None) -> list[str]:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--latency-ms", type=float, default=30)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, start_s3(Path(name) / "server") as server:
        return measure(options.rows, options.latency_ms, Path(name), server)


if __name__ == "__main__":
    main()
