"""What people see of a build: its plan, its progress, its report, as text, HTML and pictures.

Nothing here reads a file or starts work, and nothing heavier than the standard library is imported before a live
progress bar is drawn. Everything drawn is drawn from plain values, the same that ``--json`` prints.
"""
