"""The reports of a conformance run, and charts for the page of a simulation.

terminal.py   lines of text for a terminal or a file
wire.py       wire logs as rows, and the rows around a failure
difference.py the first difference of two texts
progress.py   the progress of a run, on standard error
page.py       HTML pages
charts.py     the charts of a page
matrix.py     the table of servers and clauses
"""
