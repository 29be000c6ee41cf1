"""Counted work to seconds: rates, rooflines, collectives, pipelines. Knows no model.

In:  an `OpTable`, a `Machine` (a system's peaks and links as bare numbers) and `Rates`.
Out: seconds per operator (`roofline`), per step and per phase (`phase`), per collective.
"""
