"""Checks and duplicates: looked at where rows are made, judged before anything is visible."""
