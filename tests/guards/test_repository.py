"""What lies in the repository: no large file, no image or weights of unknown origin, no private path."""

from __future__ import annotations

import re
from pathlib import Path

LARGEST_FILE = 15 * 2**20
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".svg"}
WEIGHTS = {".onnx", ".safetensors", ".pt", ".pth", ".npz", ".pkl", ".bin"}

# Written apart, so that this file does not hold what it looks for.
PRIVATE_PATHS = re.compile(r"(?<![\w.])/" + r"(work|farm|root|opt)/|/home/" + r"\w|\.libr" + r"ary\b")
CORPUS_PATH = "shared" + "/"
ONLY_FOR_CI = ".ci/run"


def test_no_file_is_too_large(files: list[Path], root: Path) -> None:
    large = {str(path.relative_to(root)): path.stat().st_size for path in files}
    assert not {name: size for name, size in large.items() if size > LARGEST_FILE}


def test_every_image_has_a_line_about_where_it_comes_from(files: list[Path], root: Path) -> None:
    notice = (root / "NOTICE.md").read_text(encoding="utf-8")
    images = [str(path.relative_to(root)) for path in files if path.suffix.lower() in IMAGES]
    assert images, "the example portrait is gone"
    assert not [name for name in images if name not in notice]


def test_all_weights_have_a_line_about_where_they_come_from(files: list[Path], root: Path) -> None:
    reported = (root / "NOTICE.md").read_text(encoding="utf-8") + (root / "MODEL_CARD.md").read_text(
        encoding="utf-8"
    )
    weights = [path.name for path in files if path.suffix.lower() in WEIGHTS]
    assert not [name for name in weights if name not in reported]


def test_no_weights_outside_the_weights_folder(files: list[Path], root: Path) -> None:
    for path in files:
        if path.suffix.lower() in WEIGHTS:
            assert path.parent == root / "src" / "faceum" / "weights"


def test_no_private_path(files: list[Path], root: Path) -> None:
    reported = []
    for path in files:
        if path.suffix.lower() in IMAGES | WEIGHTS:
            continue
        name = str(path.relative_to(root))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if PRIVATE_PATHS.search(line) or (CORPUS_PATH in line and name != ONLY_FOR_CI):
                reported.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not reported, "\n".join(reported)


def test_corpus_does_not_lie_in_the_repository(files: list[Path]) -> None:
    assert not [path for path in files if path.suffix == ".parquet"]


def test_torch_is_pinned_for_installs(root: Path) -> None:
    assert "torch==2.13.0" in (root / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_no_dependency_has_an_upper_cap(root: Path) -> None:
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    project = text[text.index("[project]") : text.index("[project.scripts]")]
    quoted = re.findall(r'"([A-Za-z0-9_.-]+(?:\[[^\]]*\])?\s*[<>=~!][^"]*)"', project)
    assert len(quoted) > 10
    assert not [one for one in quoted if re.search(r"<|==|~=|!=", one)]


def test_required_documents_exist(root: Path) -> None:
    papers = ["LICENSE", "NOTICE.md", "MODEL_CARD.md", "CHANGELOG.md", "CONTRIBUTING.md"]
    assert not [name for name in papers if (root / name).stat().st_size <= 400]
