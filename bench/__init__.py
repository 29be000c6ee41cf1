"""How fast predictions are, as figures: `make bench` prints them, `--write` keeps them in the docs.

Nothing here is a test: wall clocks on shared machines prove nothing. Each figure is the best of
several runs, with the processor's own time beside it where other programs may have been in the way.
"""
