"""The sub-commands of `python -m harness`: one file for each, with `add_arguments` and `run`.

main.py parses the command line and runs a sub-command.
"""
