"""The steps of a run, a door each; order.py leads through them.

embed   texts -> vectors            embed.py
fit     vectors -> potentials       fit.py: on a part of a large pool (sampled.py), or on from another k (start.py)
score   potentials -> scores        score.py
select  scores -> selection         select.py, by the rules of choosing.py; studies of it: masses.py, errorbars.py
report  selection -> one HTML file  report.py, by what evidence.py gathers; page.py draws it, and draws it anew
"""
