"""People: a gallery of enrolled people, search in it with verdicts, and clusters of unknown faces.

`gallery` is the door; it keeps its records in one of two stores, an SQLite file or a PostgreSQL database.
"""
