"""report.html: a page about one simulation. Pure.

In reading order; a module uses only those above it:

    recording.py     a history, indexed by time, session and message: `Recording`
    context.py       the messages and events around a violation, as text: `ViolationContext`
    picture.py       a picture of the same: `Picture`
    charts.py        charts of the whole run: `Charts`
    page.py          the page: the charts, and the violations: `report`
"""
