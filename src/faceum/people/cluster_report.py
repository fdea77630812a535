"""What `faceum cluster` writes: a contact sheet for each cluster, an HTML index, and clusters.parquet."""

from __future__ import annotations

import html
from pathlib import Path

import cv2
import numpy as np

from faceum.errors import DataError, count_noun
from faceum.extras import missing
from faceum.files import whole_file, write_text
from faceum.image import write_image
from faceum.people.cluster_faces import THUMBNAIL, Faces
from faceum.people.clusters import Clustering

COLUMNS = 10
"""Faces side by side on a contact sheet."""

MOST_ON_A_SHEET = 100
"""Faces on a contact sheet; of a larger cluster the first ones are shown."""

MOST_SHEETS = 1000
"""Clusters with a contact sheet, the largest ones."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Clusters of faces</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 1rem auto; padding: 0 1rem; max-width: 70rem; }}
figure {{ margin: 0 0 2rem; }}
figcaption {{ margin-bottom: 0.5rem; }}
img {{ max-width: 100%; }}
details {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>Clusters of faces</h1>
<p>{summary}</p>
{figures}
</body>
</html>
"""


def write_clusters(faces: Faces, clustering: Clustering, folder: Path) -> Path:
    """Write the results into `folder`, and return the path of index.html.

    clusters.parquet has a row for each face: source, face, x0, y0, x1, y1, cluster (0 is the largest) and
    size. The sheets lie in sheets/, for clusters of two faces or more whose images are there; the index opens
    without a server. Raises DataError where pyarrow is missing.
    """
    sizes = np.bincount(clustering.labels, minlength=1)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("sheets/cluster-*.jpg"):  # those of an earlier run show other groups
        old.unlink()
    _write_table(faces, clustering, sizes, folder / "clusters.parquet")
    groups = int((sizes > 1).sum())
    order = np.argsort(clustering.labels, kind="stable")
    members = np.split(order, np.cumsum(sizes)[:-1])[: min(groups, MOST_SHEETS)]
    figures = [_figure(faces, number, rows, folder) for number, rows in enumerate(members)]
    summary = (
        f"{count_noun(len(clustering.labels), 'face')}: "
        f"{count_noun(groups, 'cluster')} of two faces or more, "
        f"{count_noun(int((sizes == 1).sum()), 'face')} alone. "
        f"Two groups are one while the mean cosine between them reaches {clustering.threshold:.3f}."
    )
    if groups > MOST_SHEETS:
        summary += f" The {MOST_SHEETS:,} largest clusters are shown."
    write_text(folder / "index.html", PAGE.format(summary=summary, figures="\n".join(figures)))
    return folder / "index.html"


def _figure(faces: Faces, number: int, rows: np.ndarray, folder: Path) -> str:
    """Return a cluster's part of the page, and write its contact sheet if there are images."""
    shown = ""
    if faces.thumbnails:
        name = f"sheets/cluster-{number:04d}.jpg"
        write_image(folder / name, contact_sheet([faces.thumbnails[row] for row in rows[:MOST_ON_A_SHEET]]))
        shown = f'<img src="{name}" alt="Faces of cluster {number}" loading="lazy">'
    sources = "<br>".join(html.escape(faces.sources[row]) for row in rows[:MOST_ON_A_SHEET])
    return (
        f'<figure id="cluster-{number}"><figcaption>Cluster {number}: {len(rows)} faces</figcaption>{shown}'
        f"<details><summary>Sources</summary>{sources}</details></figure>"
    )


def contact_sheet(thumbnails: list[bytes]) -> np.ndarray:
    """Return the faces on white, `COLUMNS` per row, RGB uint8; thumbnails: JPEG bytes."""
    rows, columns = -(-len(thumbnails) // COLUMNS), min(COLUMNS, len(thumbnails))
    sheet = np.full((rows * THUMBNAIL, columns * THUMBNAIL, 3), 255, np.uint8)
    for place, data in enumerate(thumbnails):
        top, left = (place // COLUMNS) * THUMBNAIL, (place % COLUMNS) * THUMBNAIL
        face = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
        sheet[top : top + THUMBNAIL, left : left + THUMBNAIL] = face[..., ::-1]
    return sheet


def _write_table(faces: Faces, clustering: Clustering, sizes: np.ndarray, path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(missing("Writing clusters", "pyarrow", "cluster")) from None
    boxes = np.stack(faces.boxes) if faces.boxes else np.zeros((0, 4), np.float32)
    table = pyarrow.table(
        {
            "source": faces.sources,
            "face": pyarrow.array(faces.numbers, pyarrow.int32()),
            **{name: boxes[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))},
            "cluster": clustering.labels,
            "size": sizes[clustering.labels],
        }
    )
    with whole_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
