"""From a spec to versioned features, and one more file: ``python examples/quickstart.py``.

Makes a small project in a temporary folder, so that it can be run anywhere and leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

import featureflow as ff

SPEC = """
featureflow: 1
project: quickstart

sources:
  payments:
    path: payments/*.parquet
    time: ts

features:
  card_spend:
    source: payments
    keys: [card]
    aggregate:
      - {column: amount, ops: [count, sum, max], windows: [1h, 1d]}
    derive:
      is_burst: "amount_count_1h >= 2"
    keep: [amount]
"""

START = datetime(2026, 1, 1, 9, tzinfo=UTC)


def write_payments(path: Path, payments: list[tuple[str, int, float]]) -> None:
    """Write payments as (card, minutes after 09:00, amount)."""
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"card": card, "ts": START + timedelta(minutes=at), "amount": amount} for card, at, amount in payments
    ]
    pl.DataFrame(
        rows, schema={"card": pl.String, "ts": pl.Datetime("us", "UTC"), "amount": pl.Float64}
    ).write_parquet(path)


def main() -> None:
    """Build twice and look at the versions."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "featureflow.yaml").write_text(SPEC)
        write_payments(
            root / "payments" / "monday.parquet",
            [("a", 0, 5.0), ("a", 20, 7.0), ("b", 25, 99.0), ("a", 60, 1.0)],
        )
        project = ff.Project(
            root / "featureflow.yaml", store=str(root / "store"), scratch=str(root / "scratch")
        )

        project.build()
        table = ff.open(str(root / "store")).table("card_spend")
        # A window is [t - w, t): the payment at 09:20 sees the one at 09:00, and no payment sees itself.
        print(f"version {table.version}:")
        print(table.to_polars(["card", "ts", "amount", "amount_count_1h", "amount_sum_1h", "is_burst"]))

        write_payments(root / "payments" / "tuesday.parquet", [("a", 24 * 60, 2.0), ("b", 24 * 60 + 5, 3.0)])
        project.build()
        table = ff.open(str(root / "store")).table("card_spend")
        print(f"version {table.version}, the rows of Tuesday:")
        print(
            table.to_polars(
                ["card", "ts", "amount_count_1d", "amount_sum_1d"], time=("2026-01-02", "2026-01-03")
            )
        )

        project.build()  # nothing is new, so nothing is published
        print(f"still version {ff.open(str(root / 'store')).table('card_spend').version}")


if __name__ == "__main__":
    main()
