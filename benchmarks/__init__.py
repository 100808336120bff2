"""Ours beside named peers: what is measured, in `entries`, and how, in `runner`.

`hatch run bench:run` makes the environment with the peers, runs every entry, and writes
`benchmarks/results/NAME.json`. See README.md.
"""
