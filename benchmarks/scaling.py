"""Compute what labelling many images and training `base` on many ranks take, from single-rank figures.

    python benchmarks/scaling.py           # print the tables of docs/scaling.md
    python benchmarks/scaling.py --write   # write them into docs/scaling.md

Nothing is measured here: FIGURES says where each number was. The rest is arithmetic on them, on the columns
of a result file, and on the sizes of the network.
"""

from __future__ import annotations

import re
import sys

from in_turn import ROOT

FIGURES = {
    "photo, decode": (6.3, "ms on 2 processors, 1080p photo with one face (docs/performance.md)"),
    "photo, detect": (43.7, "ms, the same"),
    "photo, crop, network, answers": (14.2, "ms, the same: 1.3 + 11.7 + 1.2"),
    "base, faces": (163.8, "faces a second on one H200, 64 at a time, bfloat16 (docs/performance.md)"),
    "base, step / forward": (3.77, "processor time, benchmarks/base_step.py --faces 4, Intel Xeon with AMX"),
    "base, activations": (2.1, "GB a face: peak of --faces 4 less that of --faces 2, halved, the same"),
    "base, activations recomputed": (1.2, "GB a face: that of --faces 4 --recompute 1, less 5.1 GB"),
}
"""Name -> value, and its unit and source."""

PROCESSORS = 2
"""Of the CPU figures."""

FACES = 64
"""Faces a rank in a step of training."""

LINKS = (10, 100, 400)
"""Gigabits a second between two ranks."""

IMAGES = (10**6, 10**8, 10**9)
SIZES = (0.1, 0.5, 2.0)
"""Megabytes of an image."""
IDENTITIES = (10**5, 10**6, 10**7)
WORLDS = (1, 2, 8, 64)
DAY = 86400
PAGE = ROOT / "docs" / "scaling.md"


def photos_a_second() -> float:
    """Photos a second on one processor: decode, detect and network, one photo after the other."""
    milliseconds = sum(value for name, (value, _) in FIGURES.items() if name.startswith("photo"))
    return 1000 / milliseconds / PROCESSORS


def labelling() -> list[str]:
    """The cost of labelling photos with `compact` on CPUs, and of the network of `base` on GPUs."""
    rate, faces = photos_a_second(), FIGURES["base, faces"][0]
    rows = [
        "| images | processor-days, `compact` | days on 1,000 processors | GPU-days, `base`, network alone |"
    ]
    rows.append("|---|---|---|---|")
    for count in IMAGES:
        days = count / rate / DAY
        gpu = count / faces / DAY
        rows.append(f"| {count:,} | {days:,.1f} | {days / 1000:,.3f} | {gpu:,.2f} |")
    return rows


def bends() -> list[str]:
    """Which part limits: the store for processors, decoding and detection for a GPU."""
    rate, faces = photos_a_second(), FIGURES["base, faces"][0]
    before = FIGURES["photo, decode"][0] + FIGURES["photo, detect"][0]
    processors = faces * before * PROCESSORS / 1000
    rows = ["| megabytes an image | MB/s for 1,000 processors | MB/s for one GPU | TB read for 10^8 images |"]
    rows.append("|---|---|---|---|")
    for size in SIZES:
        rows.append(
            f"| {size} | {1000 * rate * size:,.0f} | {faces * size:,.0f} | {size * 10**8 / 1e6:,.0f} |"
        )
    rows += ["", f"Decoding and detecting for one GPU at its full rate takes {processors:.0f} processors."]
    return rows


def results_size() -> list[str]:
    """Bytes of result rows by their columns, before compression."""
    from faceum.jobs.columns import FACE_NUMBERS, LANDMARK_NUMBERS

    face = 4 * (len(FACE_NUMBERS) + LANDMARK_NUMBERS) + 2 * 512
    rows = ["| faces | GB of rows before compression | of which embeddings |", "|---|---|---|"]
    for count in IMAGES:
        rows.append(f"| {count:,} | {count * face / 1e9:,.1f} | {count * 1024 / 1e9:,.1f} |")
    return rows


def parameters() -> tuple[int, int]:
    """The number of parameters of `base`, and of those in its transformer blocks."""
    import torch

    from faceum.model.configs import BASE
    from faceum.model.network import FaceUM

    with torch.device("meta"):
        sizes = {name: one.numel() for name, one in FaceUM(BASE).named_parameters()}
    blocks = [size for name, size in sizes.items() if name.startswith(("trunk.blocks.", "moe_blocks."))]
    return sum(sizes.values()), sum(blocks)


def training() -> list[str]:
    """Memory of weights, average, gradients and moments on each rank, and what ranks send in a step."""
    count, blocks = parameters()
    network = 20 * count / 1e9
    rows = [
        "| identities | ranks | network, GB a rank | centres, GB a rank | both |",
        "|---|---|---|---|---|",
    ]
    for identities in IDENTITIES:
        for world in WORLDS:
            centres = 16 * identities * 512 / world / 1e9
            rows.append(
                f"| {identities:,} | {world} | {network:.2f} | {centres:,.2f} | {network + centres:,.2f} |"
            )
    sent = 4 * count / 1e9
    rows += [
        "",
        f"`base` has {count / 1e6:.1f} million parameters. A ring of many ranks sends twice its gradients, "
        f"{2 * sent:.2f} GB a rank and step, whatever the number of ranks. "
        f"{blocks / 1e6:.1f} million are in its transformer blocks, which `shard=blocks` divides over the "
        "ranks; the table is for `shard=none`.",
    ]
    return rows


def steps() -> list[str]:
    """Time of a step and faces a second, by the number of ranks and the link between them."""
    count, _ = parameters()
    ratio, rate = FIGURES["base, step / forward"][0], FIGURES["base, faces"][0]
    compute = FACES * ratio / rate
    rows = [
        "| ranks | " + " | ".join(f"{link} Gbit/s: a step; faces a second" for link in LINKS) + " |",
        "|---" * (len(LINKS) + 1) + "|",
    ]
    for world in WORLDS:
        cells = []
        for link in LINKS:
            sent = 2 * (world - 1) / world * 4 * count / (link * 1e9 / 8)
            seconds = compute + sent
            cells.append(f"{seconds:.2f} s; {world * FACES / seconds:,.0f}")
        rows.append(f"| {world} | " + " | ".join(cells) + " |")
    memory = [FIGURES[name][0] for name in ("base, activations", "base, activations recomputed")]
    rows += [
        "",
        f"A step is {FACES} faces a rank: {FACES} / {rate:g} s of an H200's forward pass, times {ratio:g} "
        "for the backward pass and the update, and then the gradients' way around the ring. Activations take "
        f"{memory[0]:g} GB a face, with `recompute=true` {memory[1]:g}: {FACES * memory[0]:,.0f} and "
        f"{FACES * memory[1]:,.0f} GB.",
    ]
    return rows


TABLES = {
    "labelling": labelling,
    "bends": bends,
    "results": results_size,
    "training": training,
    "steps": steps,
}


def fill(page: str) -> str:
    """Return the page with its tables computed."""
    for name, table in TABLES.items():
        marks = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        pattern = re.compile(f"({re.escape(marks[0])}\n).*?({re.escape(marks[1])})", re.S)
        text = "\n".join(table())
        page, found = pattern.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
        assert found == 1, f"docs/scaling.md has no place for {name}"
    return page


def main() -> None:
    """Print the tables, or write them into the page."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name, (value, source) in FIGURES.items():
        print(f"{name}: {value} {source}")
    for table in TABLES.values():
        print("", *table(), sep="\n")


if __name__ == "__main__":
    main()
