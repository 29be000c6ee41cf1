"""What people and programs read: tables, detail views, JSON, predicted CSVs, validation pages.

In:  answers of `analyzer` and scores of `calibration`.
Out: text, one JSON document, files written whole or not at all.
The commands of `plumbline` live in `reports.commands`, one file each, loaded when they are called.
"""
