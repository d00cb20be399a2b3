"""report.html: a simulation on one page, to be read by a person. Pure.

context.py       the events around a violation, as a picture and as text: `around`
page.py          the page: charts of the whole run, and its violations: `report`
"""
