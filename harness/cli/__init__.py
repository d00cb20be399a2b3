"""The sub-commands of ``python -m harness``, one file each, with `add_arguments` and `run`.

main.py parses the command line and runs one of them.
"""
