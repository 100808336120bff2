"""Mutation testing of the packages' arithmetic; the command is `tools/mutate.py`."""
