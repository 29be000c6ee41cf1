"""Tables of scenarios: rows that name a machine, a model and an engine become predicted columns.

In:  rows of text with the columns of measured files (`columns.Reader`).
Out: predicted arrays, and for each row that cannot be answered, or only in part, the reason.
Rows that differ in nothing but batch and lengths are one `groups.Group` and are predicted in one
call; `forms` holds the closed form of every kind of arrival. Files are read and written by
`reports.predictions`.
"""
