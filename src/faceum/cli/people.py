"""`faceum people`: enroll people in a gallery, find them in images, and remove them for good."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.cli.options import (
    DetectorOption,
    JsonOption,
    MaskedOption,
    ModelOption,
    RecognizerOption,
    ThreadsOption,
)
from faceum.cli.terminal import escape, make_console, print_json, say
from faceum.errors import count_noun

if TYPE_CHECKING:
    from faceum.analyzer import FaceAnalyzer
    from faceum.people.gallery import Enrolled, Gallery

GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        envvar="FACEUM_GALLERY",
        help="A file, or postgresql://user@host/database; by default a file in your data folder.",
    ),
]
KeepCropsOption = Annotated[
    bool, typer.Option("--keep-crops", help="Store a JPEG of each enrolled face with its vector.")
]
LargestOption = Annotated[
    bool,
    typer.Option(
        "--largest", help="If an image has several faces, take the largest; without this it is refused."
    ),
]
MinQualityOption = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Refuse faces of a lower quality, such as blurred or tiny ones; 0..1."
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A person of the gallery.")]

people_app = typer.Typer(
    help="Keep a gallery of people: enroll, search, list, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@people_app.command("enroll")
def enroll_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person in the images.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images, or folders of images.")],
    gallery: GalleryOption = None,
    json: JsonOption = False,
    largest: LargestOption = False,
    min_quality: MinQualityOption = 0.0,
    keep_crops: KeepCropsOption = False,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Add images of one person to the gallery.

    Exit code 1 if some images could not be used, 2 if none could.
    """
    from faceum.cli.paths import list_images

    listed = list_images(images)
    for sentence in listed.problems:
        say(sentence)
    opened = _open(gallery, model, recognizer, detector, threads, keep_crops)
    entries = [(name, source) for source in listed.sources.values()]
    enrolled = opened.enroll_many(entries, largest=largest, min_quality=min_quality)
    _report(enrolled, len(entries), json, len(listed.problems))


@people_app.command("import")
def import_command(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A folder with a folder per person, or an exported .npz file."),
    ],
    gallery: GalleryOption = None,
    json: JsonOption = False,
    largest: LargestOption = False,
    min_quality: MinQualityOption = 0.0,
    keep_crops: KeepCropsOption = False,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Enroll a folder of people, or add an exported file.

    The folder holds a folder of images for each person, with the person's name.

    Images that are in the gallery already are skipped, so an interrupted import can be repeated.
    """
    from faceum.people.sources import people_folders

    opened = _open(gallery, model, recognizer, detector, threads, keep_crops)
    if source.suffix == ".npz":
        _report(opened.import_file(source), None, json)
        return
    entries = list(people_folders(source))
    enrolled = opened.enroll_many(entries, largest=largest, min_quality=min_quality)
    _report(enrolled, len(entries), json)


@people_app.command("search")
def search_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image with one face or several.")],
    gallery: GalleryOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of nearest people to show.")] = 5,
    fmr: Annotated[
        float, typer.Option(help="Share of strangers that a search may take for somebody in the gallery.")
    ] = 0.01,
    masked: MaskedOption = False,
    json: JsonOption = False,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Find people of the gallery in an image.

    Exit code 0 if somebody was recognized, 1 if nobody was, 2 if the image cannot be used.
    """
    opened = _open(gallery, model, recognizer, detector, threads, new=False)
    found = opened.search(image, k, fmr=fmr, masked=masked)
    if json:
        print_json({"image": str(image), "faces": [one.to_dict() for one in found]})
    elif not found:
        typer.echo(f"There is no face in {escape(str(image))}.")
    else:
        from faceum.cli.people_tables import search_basis, search_table

        for number, one in enumerate(found, 1):
            make_console().print(search_table(one, number))
        make_console().print(search_basis(found[0]))
    if not any(candidate.same for one in found for candidate in one.candidates):
        raise typer.Exit(1)


@people_app.command("list")
def list_command(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """List the people of the gallery and how many samples each has."""
    people = _open(gallery, new=False).people()
    if json:
        print_json([person.to_dict() for person in people])
        return
    for person in people:
        typer.echo(f"{escape(person.name)}  {person.samples}")
    samples = sum(person.samples for person in people)
    typer.echo(f"{count_noun(len(people), 'person', 'people')}, {count_noun(samples, 'sample')}")


@people_app.command("show")
def show_command(
    name: NameArgument,
    gallery: GalleryOption = None,
    crops: Annotated[
        Path | None, typer.Option(help="Write the person's stored crops into this folder, as ID.jpg.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List a person's samples."""
    from faceum.files import write_bytes

    samples = _open(gallery, new=False).samples(name, crops=crops is not None)
    if json:
        print_json([sample.to_dict() for sample in samples])
    else:
        for sample in samples:
            quality = "-" if sample.quality is None else f"{sample.quality:.2f}"
            typer.echo(
                f"{sample.id}  {sample.added}  {sample.model}  quality {quality}  {escape(sample.source)}"
            )
    for sample in samples:
        if crops is not None and sample.crop is not None:
            write_bytes(crops / f"{sample.id}.jpg", sample.crop)


@people_app.command("rename")
def rename_command(
    name: NameArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    gallery: GalleryOption = None,
) -> None:
    """Give a person another name."""
    _open(gallery, new=False).rename(name, new)
    typer.echo(f"{escape(name)} is now {escape(new)}.")


@people_app.command("merge")
def merge_command(
    name: NameArgument,
    into: Annotated[str, typer.Argument(metavar="INTO", help="The person who receives the samples.")],
    gallery: GalleryOption = None,
) -> None:
    """Give all samples of one person to another, and remove the first."""
    opened = _open(gallery, new=False)
    before = len(opened.samples(name))
    moved = opened.merge(name, into)
    twice = f"; {into} had {before - moved} of the same images already" if moved < before else ""
    typer.echo(
        f"{count_noun(moved, 'sample')} of {name} {'is' if moved == 1 else 'are'} now {into}'s{twice}."
    )


@people_app.command("remove")
def remove_command(name: NameArgument, gallery: GalleryOption = None) -> None:
    """Remove a person for good.

    Vectors and crops are overwritten in the gallery's file.
    """
    removed = _open(gallery, new=False).remove(name)
    typer.echo(f"{escape(name)} was removed with {count_noun(removed, 'sample')}.")


@people_app.command("export")
def export_people_command(
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    gallery: GalleryOption = None,
    crops: Annotated[bool, typer.Option("--crops", help="Export the stored crops, too.")] = False,
) -> None:
    """Write all people to one file, which `import` reads."""
    count = _open(gallery, new=False).export(out, crops=crops)
    typer.echo(f"Wrote {count_noun(count, 'sample')} to {escape(str(out))}.")


@people_app.command("doctor")
def doctor_people_command(
    gallery: GalleryOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Overwrite removed vectors and crops that are still in the file.")
    ] = False,
    json: JsonOption = False,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
) -> None:
    """Check the gallery's records, file and network. Exit code 1 if something is wrong."""
    findings = _open(gallery, model, recognizer, new=False).doctor(repair=repair)
    if json:
        print_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            typer.echo(f"{'ok' if finding.ok else '!!'}  {finding.name}: {escape(finding.detail)}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _open(
    gallery: str | None,
    model: str = "compact",
    recognizer: str | None = None,
    detector: str = "auto",
    threads: int | None = None,
    keep_crops: bool = False,
    new: bool = True,
) -> "Gallery":
    """Open the gallery; new: make it where it is missing, else raise GalleryError."""
    from faceum.errors import GalleryError
    from faceum.people.gallery import Gallery, default_url, is_missing

    url = default_url() if gallery is None else gallery
    if not new and is_missing(url):
        raise GalleryError(f"There is no gallery {url}; check the name, or enroll somebody first.")

    def load_analyzer() -> "FaceAnalyzer":
        from faceum.analyzer import FaceAnalyzer

        return FaceAnalyzer(
            model, tasks=["recognition"], recognizer=recognizer, detector=detector, threads=threads
        )

    return Gallery(url, analyzer=load_analyzer, keep_crops=keep_crops)


def _report(enrolled: "Iterable[Enrolled]", count: int | None, json: bool, problems: int = 0) -> None:
    """Show progress, then what was added and which images could not be used; exit code 1 or 2 for these."""
    from rich.console import Console
    from rich.progress import track

    added, known, bad = 0, 0, []
    shown = Console(stderr=True)
    hidden = json or not shown.is_terminal
    for one in track(enrolled, "Enrolling", total=count, console=shown, transient=True, disable=hidden):
        added += one.added
        known += not one.added and one.problem is None
        bad += [one.problem] if one.problem is not None else []
    if json:
        print_json({"added": added, "known": known, "problems": bad})
    else:
        for sentence in bad:
            say(sentence)
        typer.echo(f"Samples added: {added}, there already: {known}; images not usable: {len(bad)}.")
    if bad or problems:
        raise typer.Exit(1 if added or known else 2)
