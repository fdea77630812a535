"""Score a network on labelled faces by the published protocols.

`sets` reads a set, `samples` finds and cuts its faces, `protocols` runs the protocols (`age`, `attributes`,
`expression`, `dense`, `verification`), `record` holds their scores, and `report` writes them down.
"""
