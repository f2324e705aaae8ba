"""Optional: compares groups of runs by intervals, whatever trained them. Needs only numpy, scipy and matplotlib.

`python -m alexnet.study results.csv` reports on a table with a row for every run. In order: table.py reads it,
compare.py makes the intervals of intervals.py into verdicts, and report.py writes the page with summary.py, caveats.py
and figures.py. alexnet.study_adapter makes such a table of run directories.
"""
