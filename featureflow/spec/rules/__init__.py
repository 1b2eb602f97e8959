"""Rules that look at more than one value of a spec; no file is opened."""
