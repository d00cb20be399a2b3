"""The reports of a run.

terminal.py   text lines for a terminal
wire.py       wire logs as rows, and the rows around a failure
difference.py the first difference of two texts
progress.py   the progress of a run, on standard error
page.py       HTML pages
charts.py     the charts of a page
matrix.py     the table of servers and clauses
"""
