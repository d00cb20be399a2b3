"""report.html: a page about one simulation. Pure.

The modules, in reading order. A module imports only modules above it:

    recording.py     a history, indexed by time, session and message: `Recording`
    context.py       the messages and events around a violation, as text: `ViolationContext`
    picture.py       a picture of the messages and events around a violation: `Picture`
    charts.py        charts of the whole run: `Charts`
    page.py          the page, with the charts and the violations: `report`
"""
