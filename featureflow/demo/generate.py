"""Makes the sample data of the templates: ``python -m featureflow.demo.generate``.

Deterministic: Python's own random generator with fixed seeds, whose sequence is the same in every version; the images
are those that scikit-learn carries. The result is committed; run it again only to change it.
"""

from __future__ import annotations

import csv
import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEMPLATES = Path(__file__).parent / "templates"
START = datetime(2026, 1, 1, tzinfo=UTC)
INSTANT = pa.timestamp("us", "UTC")


def main() -> None:
    """Write the data of the templates and print the sizes."""
    fraud(TEMPLATES / "fraud" / "data")
    sensors(TEMPLATES / "sensors" / "data")
    imaging(TEMPLATES / "imaging" / "data")
    for path in sorted(TEMPLATES.rglob("data/**/*.*")):
        print(f"{path.relative_to(TEMPLATES)}: {path.stat().st_size} bytes")


def fraud(folder: Path, *, cards: int = 25, days: int = 10, merchants: int = 12) -> None:
    """Card transactions, one file a day, and the changing risk of merchants.

    Some transactions are loaded hours after they happened, some twice, some were declined, some have no merchant.
    """
    chance = random.Random(7)
    number = 0
    for day in range(days):
        rows: list[dict[str, Any]] = []
        for card in range(1, cards + 1):
            for _ in range(chance.choice((0, 1, 1, 2, 2, 3))):
                number += 1
                moment = START + timedelta(days=day, seconds=chance.randrange(86_400))
                rows.append(
                    {
                        "txn_id": number,
                        "card_id": card,
                        "ts": moment,
                        "loaded_at": moment + timedelta(minutes=chance.choice((1, 1, 1, 2, 240))),
                        "amount": round(math.exp(chance.gauss(3.2, 1.1)), 2),
                        "merchant_id": None
                        if chance.random() < 0.03
                        else f"m{chance.randint(1, merchants):02d}",
                        "channel": chance.choice(("pos", "pos", "web")),
                        "status": "declined" if chance.random() < 0.06 else "ok",
                    }
                )
        again = chance.choice(rows)
        rows.append({**again, "loaded_at": again["loaded_at"] + timedelta(hours=6)})
        rows.sort(key=lambda row: (row["ts"], row["txn_id"], row["loaded_at"]))
        kinds = {"ts": INSTANT, "loaded_at": INSTANT}
        write_parquet(
            folder / "transactions" / f"{START + timedelta(days=day):%Y-%m-%d}.parquet", rows, kinds
        )
    changes = []
    for merchant in range(1, merchants + 1):
        changed = START - timedelta(days=30)
        while changed < START + timedelta(days=days):
            changes.append(
                {
                    "id": f"m{merchant:02d}",
                    "since": changed.strftime("%Y-%m-%dT%H:%M:%S"),
                    "risk": round(chance.random(), 3),
                    "country": chance.choice(("DE", "FR", "US")),
                }
            )
            changed += timedelta(hours=chance.randint(100, 600))
    write_csv(folder / "merchants.csv", changes)


def sensors(folder: Path, *, devices: int = 4, hours: int = 60) -> None:
    """Temperatures every 15 minutes, with gaps and a failing device, and the devices' calibrations."""
    chance = random.Random(11)
    for device in range(1, devices + 1):
        lines = []
        level = 18.0 + device
        for step in range(hours * 4):
            moment = START + timedelta(minutes=15 * step)
            if chance.random() < 0.04 or (device == 3 and step > hours * 3):
                continue
            level += chance.gauss(0, 0.15)
            value = level + 4 * math.sin(2 * math.pi * step / 96)
            reading = None if chance.random() < 0.02 else round(value, 2)
            lines.append({"device": f"d{device}", "at": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "celsius": reading})
        write_lines(folder / "readings" / f"d{device}.jsonl", lines)
    calibrations = [
        {
            "device": f"d{device}",
            "done": f"{START - timedelta(days=3 - i * 5):%Y-%m-%dT%H:%M:%SZ}",
            "correction": correction,
        }
        for device in range(1, devices + 1)
        for i, correction in enumerate((round(chance.gauss(0, 0.4), 2), round(chance.gauss(0, 0.4), 2)))
    ]
    write_csv(folder / "calibrations.csv", calibrations)


def imaging(folder: Path) -> None:
    """Scans of handwritten digits, 8 by 8 pixels of 17 levels, and which digit each shows.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49, CC BY 4.0; the 1797 images of its test set.
    """
    import numpy as np
    import xarray as xr
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    stack = xr.Dataset(
        {
            "image": (
                ("sample", "y", "x"),
                digits.images.astype(np.uint8),
                {"units": "1", "long_name": "ink"},
            ),
            "digit": (("sample",), digits.target.astype(np.int8), {"long_name": "what is written"}),
        },
        coords={
            "sample": np.arange(len(digits.target), dtype=np.int32),
            "y": np.arange(8, dtype=np.int32),
            "x": np.arange(8, dtype=np.int32),
        },
        attrs={
            "title": "Optical Recognition of Handwritten Digits",
            "source": "https://doi.org/10.24432/C50P49",
            "license": "CC BY 4.0",
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    packed = {"zlib": True, "complevel": 9, "chunksizes": (300, 8, 8)}
    stack.to_netcdf(folder / "digits.nc", engine="h5netcdf", encoding={"image": packed})


def write_parquet(path: Path, rows: list[dict[str, Any]], kinds: dict[str, pa.DataType]) -> None:
    """Write rows with the given types of times; other types follow from the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], kinds.get(name)) for name in rows[0]}
    pq.write_table(pa.table(columns), path, compression="zstd")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows under a header; a None is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
