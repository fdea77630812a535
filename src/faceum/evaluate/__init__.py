"""How good a network is: a runner and labelled faces in, scores by the published protocols out.

`samples` finds and cuts the faces, `protocols` and `verification` score one task each, `record` is what they
give, `report` writes it down with the help of `plots` and `overlays`.
"""
