"""Training sets: a spine's rows with what was known at their times, split, encoded and versioned."""
