"""One file for each sub-command of ``python -m harness``; each has `add_arguments` and `run`."""
