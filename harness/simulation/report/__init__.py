"""report.html: a simulation on one page. Pure.

In reading order; a module uses only those above it:

    recording.py     a history, indexed for questions about violations: `Recording`
    context.py       the messages and events around a violation, as text: `ViolationContext`
    picture.py       the same as a picture: `Picture`
    charts.py        charts of the whole run: `Charts`
    page.py          the page: charts of the whole run, and its violations: `report`
"""
