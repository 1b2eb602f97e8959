"""Whole batches of training data: from exported shards, local or remote, and from datasets in memory."""
