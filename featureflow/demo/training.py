"""The demo's models: trained on shards alone, and scored on flights of the months after."""

# mypy: disable-error-code="import-not-found, import-untyped"
# scikit-learn has no types, and torch need not be installed
from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from featureflow.datasets.dataset import Dataset
from featureflow.loaders.shards import Shards

Floats = npt.NDArray[np.float64]
Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]

LABEL = "late"
HIDDEN = 64
EPOCHS = 4
HEADERS = ("", "ROC AUC", "log loss", "Brier score", "seconds")


def scores(dataset: Dataset, shards: Shards) -> list[list[str]]:
    """Train each model on the split ``train`` and score it on ``test``: a line for each, the naive ones first."""
    train, test = rows_of(shards, "train"), rows_of(shards, "test")
    share = float(train[1].mean())
    base = np.full(len(test[1]), share)
    lines = [_line("the same for all: how many are late in train", test[1], base, None)]
    truth, guess = carrier_shares(dataset)
    lines.append(_line("how many of its carrier's are late in train", truth, guess, None))
    models: dict[str, Callable[[], Floats]] = {
        "logistic regression": lambda: logistic(train, test[0]),
        "boosted trees (scikit-learn)": lambda: boosted(train, test[0]),
    }
    if importlib.util.find_spec("torch") is not None:
        models["a small network (PyTorch)"] = lambda: network(shards, test[0])
    for name, predict in models.items():
        start = time.perf_counter()
        predicted = predict()
        lines.append(_line(name, test[1], predicted, time.perf_counter() - start))
    return lines


def rows_of(shards: Shards, split: str) -> Rows:
    """All rows of a split: the matrix of features, and the label."""
    batches = list(shards.numpy(65_536, split, shuffle=False, columns=["x", LABEL]))
    return np.concatenate([batch["x"] for batch in batches]), np.concatenate([b[LABEL] for b in batches])


def carrier_shares(dataset: Dataset) -> tuple[npt.NDArray[np.bool_], Floats]:
    """What is true of the flights of ``test``, and the share of late ones of their carrier in ``train``."""
    raw = dataset.to_polars(columns=["carrier", LABEL, "split"], encoded=False).drop_nulls(LABEL)
    train, test = raw.filter(split="train"), raw.filter(split="test")
    shares = train.group_by("carrier").agg(guess=pl.col(LABEL).mean())
    known = test.join(shares, on="carrier", how="left", maintain_order="left")
    guess = known["guess"].fill_null(train[LABEL].mean())
    return known[LABEL].to_numpy(), guess.to_numpy()


def logistic(train: Rows, test: npt.NDArray[np.float32]) -> Floats:
    """Chances by logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        chances: Floats = LogisticRegression(max_iter=300).fit(*train).predict_proba(test)[:, 1]
    return chances


def boosted(train: Rows, test: npt.NDArray[np.float32]) -> Floats:
    """Chances by boosted trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    # one thread: its threads wait busily for each other, which takes minutes where others use the processor, too
    with threadpool_limits(1):
        model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.15, random_state=0).fit(*train)
        chances: Floats = model.predict_proba(test)[:, 1]
    return chances


def network(shards: Shards, test: npt.NDArray[np.float32]) -> Floats:
    """Chances by a network with one hidden layer, which is fed by the loader batch by batch."""
    import torch

    torch.set_num_threads(1)  # for the reason that boosted trees have one; the matrices are small
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(test.shape[1], HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    batches: Any = shards.torch(1024, "train", seed=0, columns=["x", LABEL])
    for _ in range(EPOCHS):
        for batch in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model(batch["x"])[:, 0], batch[LABEL].float()
            )
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        chances: Floats = torch.sigmoid(model(torch.from_numpy(test))[:, 0]).double().numpy()
    return chances


def _line(name: str, truth: npt.NDArray[np.bool_], chances: Floats, seconds: float | None) -> list[str]:
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    found = (roc_auc_score(truth, chances), log_loss(truth, chances), brier_score_loss(truth, chances))
    took = "" if seconds is None else f"{seconds:.1f}"
    return [name, *(f"{score:.3f}" for score in found), took]
