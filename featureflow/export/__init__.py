"""Export: from the rows of a dataset version to shuffled shards, in two passes through files."""
