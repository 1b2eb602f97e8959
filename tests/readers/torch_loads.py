"""Runs where torch is: loads shards as training code does, and says what it saw, as JSON on the last line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[2]))  # featureflow need not be installed there

from featureflow.loaders.shards import load_shards


def keys(batches):
    return [batch["key"].tolist() for batch in batches]


def loader(batches, workers, **options):
    return DataLoader(batches, batch_size=None, num_workers=workers, **options)


def check_tensors(shards):
    batches = shards.torch(16, tail="drop")
    assert isinstance(batches, torch.utils.data.IterableDataset)
    assert len(batches) == len(loader(batches, 0)) == 300 // 16
    for batch in batches:
        assert batch["x"].dtype == torch.float32
        assert batch["x"].shape == (16, 4)
        assert batch["key"].dtype == torch.int64
        expected = batch["key"][:, None] * 4 + torch.arange(4)
        assert torch.equal(batch["x"], expected.to(torch.float32))
        assert batch["text"] == [f"row {key}" for key in batch["key"].tolist()]
        batch["x"] += 1  # it is nobody else's


def check_workers(shards, context):
    alone = [keys(shards.torch(16, seed=3, epoch=epoch)) for epoch in range(4)]
    for workers in (2,) if context == "spawn" else (0, 1, 2):
        options = {"multiprocessing_context": context} if workers else {}
        for persistent in (True,) if context == "spawn" else {False, workers > 0}:
            batches = shards.torch(16, seed=3)
            reader = loader(batches, workers, persistent_workers=persistent, **options)
            assert [keys(reader) for _ in range(4)] == alone, (workers, persistent)
            batches.set_epoch(1)
            if not persistent:
                assert keys(reader) == alone[1]


def check_union(shards):
    for world in (1, 2, 4, 8):
        for workers in (0, 2):
            found, counts = [], set()
            for rank in range(world):
                batches = shards.torch(7, tail="partial", rank=rank, world=world)
                parts = keys(loader(batches, workers))
                counts.add(len(parts))
                found += [key for part in parts for key in part]
            assert sorted(found) == list(range(300)), (world, workers)
            assert len(counts) == 1


def check_resume(shards):
    whole = keys(shards.torch(16, seed=5))
    following = keys(shards.torch(16, seed=5, epoch=1))
    for taken in (0, 1, 7, 17):
        first = shards.torch(16, seed=5)
        running = iter(loader(first, 2))
        for _ in range(taken):
            next(running)
        del running
        state = json.loads(json.dumps(first.state_dict(batches=taken)))
        assert state["samples"] == taken * 16
        for workers in (0, 2):
            resumed = shards.torch(16)
            resumed.load_state_dict(state)
            reader = loader(resumed, workers)
            assert keys(reader) == whole[taken:], (taken, workers)
            assert keys(reader) == following
            assert resumed.epoch == (2 if workers == 0 else 1)


def check_left_early(shards):
    """An epoch that was left early starts again, whatever was loaded before."""
    whole = keys(shards.torch(16))
    for workers in (0, 2):
        batches = shards.torch(16)
        batches.load_state_dict({**batches.state_dict(), "samples": 32})
        reader = loader(batches, workers, prefetch_factor=1 if workers else None)
        assert next(iter(reader))["key"].tolist() == whole[2]
        assert keys(reader) == whole


def check_stateful(shards):
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:
        return
    whole = keys(shards.torch(16, seed=5))
    for workers in (0, 2):
        for taken in (1, 4, 9):
            reader = StatefulDataLoader(shards.torch(16, seed=5), batch_size=None, num_workers=workers)
            running = iter(reader)
            for _ in range(taken):
                next(running)
            state = reader.state_dict()
            del running
            again = StatefulDataLoader(shards.torch(16, seed=5), batch_size=None, num_workers=workers)
            again.load_state_dict(state)
            assert keys(again) == whole[taken:], (workers, taken)


def check_distributed(shards):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{sys.argv[1]}/rendezvous", rank=0, world_size=1
    )
    assert shards.torch(4)._batches.reading.world == 1
    torch.distributed.destroy_process_group()


def check_training(shards):
    """A least-squares fit from shards finds the weights."""
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    batches = shards.torch(60, columns=["x", "amount"])
    losses = []
    for _ in range(300):
        for batch in batches:
            loss = ((model(batch["x"] / 1200)[:, 0] - batch["amount"].float() / 40) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 < losses[0]


def main():
    shards = load_shards(sys.argv[1])
    checks = [check_tensors, check_union, check_resume, check_left_early, check_stateful, check_training]
    for check in checks:
        check(shards)
    check_workers(shards, "fork")
    check_workers(shards, "spawn")
    if torch.distributed.is_available():
        check_distributed(shards)
    x = np.concatenate([batch["x"].numpy() for batch in shards.torch(16, tail="drop")])
    print(json.dumps({"rows": len(x)}))


if __name__ == "__main__":
    main()
