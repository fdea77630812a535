"""What a score is: arrays of answers and of truths in, small records of numbers out; numpy only.

One file a kind of question: `verification`, `age`, `attributes`, `expression`, `parsing`, `landmarks`; and
three that serve all of them: `intervals` (bootstrap), `calibration` (does a stated confidence hold?) and
`groups` (the same score for every age band and gender). Shares are 0..1 everywhere, never per cent. What
cannot be computed is None in the record with a sentence in its notes; what should not be computed (a NaN
answer, a label out of range, no pair of the same person) is a `DataError`.
"""
