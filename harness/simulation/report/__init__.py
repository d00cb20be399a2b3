"""report.html: a simulation on one page, to be read by a person. Pure.

In reading order; a module uses only those above it:

    recording.py     a history, ready to be asked about violations: `Recording`
    context.py       the messages and events around a violation, in words: `ViolationContext`
    picture.py       the same as a picture: `Picture`
    charts.py        charts of the whole run: `Charts`
    page.py          the page: charts of the whole run, and its violations: `report`
"""
