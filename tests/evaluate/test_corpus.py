"""Our own detector on the corpus: its faces are found, so that scores speak of the whole road."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

from faceum.data.face import read_face
from faceum.detect.base import load_detector
from faceum.evaluate.samples import cut_faces
from faceum.evaluate.sets import load_set

CORPUS = Path(os.environ.get("FACEUM_CORPUS", ""))
pytestmark = pytest.mark.skipif(
    "FACEUM_CORPUS" not in os.environ, reason="needs the corpus; set FACEUM_CORPUS to its folder"
)

PROTOCOLS = {
    "lfw": ("verification", "masked", "stretched", "small"),
    "utkface": ("age", "attributes"),
    "celeba": ("attributes",),
    "ferplus": ("expression",),
    "celebamask": ("parsing",),
    "helen_afw": ("landmarks",),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_detector_finds_the_faces_of_a_set(name, runner):
    labelled = load_set(name, CORPUS)
    assert labelled.protocols == PROTOCOLS[name]
    rows = map(read_face, islice(labelled.faces(), 0, 90))
    samples = cut_faces(rows, runner, load_detector(threads=1), task="age", tight=labelled.tight)
    found = [sample.found for sample in samples]
    assert len(found) == 90
    assert found.count("detector") >= 0.92 * len(found)
