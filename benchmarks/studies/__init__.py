"""Studies: how well methods do on real data, beside floors and trivial answers."""
