"""The commands of `plumbline`, one file each, loaded when they are called.

In:  the words of a command line (`declare` names them, `run` gets them parsed).
Out: text on standard output through `reports.console`; errors of `analyzer.errors` to the caller.
"""
