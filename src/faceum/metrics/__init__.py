"""Compute scores from predicted and true values, with numpy alone; each function returns a small record.

One module per task (`verification`, `age`, `attributes`, `expression`, `parsing`, `landmarks`), and three
that serve all tasks: `intervals` (bootstrap), `calibration` (does a stated confidence hold?) and `groups`
(one score per age band and gender). `match_rates` measures the thresholds of recognition. Shares are 0..1,
never per cent. A score that is undefined for the given data is None, and a note in the record says why.
Values that cannot be scored (NaN, a label out of range, no pair of the same person) raise `DataError`.
"""
