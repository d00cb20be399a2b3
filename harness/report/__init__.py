"""What people read of a run.

terminal.py   lines for a terminal
progress.py   how far a run is
page.py       a page of HTML
charts.py     the charts of a page
matrix.py     servers side by side
"""
