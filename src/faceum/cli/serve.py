"""`faceum serve`: run the server and its page, check its settings, or make an API key."""

from typing import Annotated

import typer

from faceum.cli.options import (
    DetectorOption,
    DeviceOption,
    ModelOption,
    RecognizerOption,
    RuntimeOption,
    ThreadsOption,
)
from faceum.cli.terminal import say
from faceum.errors import FaceumError
from faceum.extras import is_installed, missing


def serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with its own network.")] = 1,
    gallery: Annotated[
        str | None, typer.Option(help="Offer this gallery of people: a file, or postgresql://...")
    ] = None,
    keys: Annotated[str | None, typer.Option(help="File of API keys; see --new-key.")] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve other machines without API keys.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Another host name of the server. Can be repeated.")
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest request, in bytes.")] = 10 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, in pixels.")] = 40_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="Most images in a request.")] = 16,
    max_faces: Annotated[int, typer.Option(min=1, help="Answer for only this many largest faces.")] = 100,
    queue: Annotated[int, typer.Option(min=1, help="Most images that may wait.")] = 64,
    deadline: Annotated[float, typer.Option(min=0.1, help="Longest wait of an image, in seconds.")] = 20.0,
    upload_time: Annotated[
        float, typer.Option(min=0.1, help="Longest time for a request to arrive, in seconds.")
    ] = 15.0,
    check: Annotated[bool, typer.Option("--check", help="Check the settings and exit.")] = False,
    new_key: Annotated[
        str | None,
        typer.Option(help="Make an API key with this name, print it and its line for --keys, and exit."),
    ] = None,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Serve the analyzer over HTTP, with a page at /.

    Nothing that is uploaded is written to disk or logged. On an address that other machines can reach,
    the server needs API keys, from --keys or the variable FACEUM_KEYS.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if not is_installed(module):
            raise FaceumError(missing("Serving", module))
    from faceum.serve.settings import Settings

    if new_key is not None:
        from faceum.serve.keys import new_key as make_key

        key, line = make_key(new_key)
        typer.echo(line)
        say(f"The key is {key}; it is shown only now. Put the line above into the key file.")
        return
    settings = Settings(
        host=host, port=port, model=model, recognizer=recognizer, detector=detector, runtime=runtime,
        device=device, threads=threads, workers=workers, gallery=gallery, keys_file=keys,
        allow_anonymous=allow_anonymous, allowed_hosts=tuple(allowed_host or ()), max_bytes=max_bytes,
        max_pixels=max_pixels, max_images=max_images, max_faces=max_faces, queue=queue, deadline=deadline,
        upload_time=upload_time,
    )  # fmt: skip
    from faceum.serve.start import check_start

    sentence = check_start(settings)
    if check:
        typer.echo(sentence)
        return
    from faceum.serve.process import run_server

    say(sentence)
    run_server(settings)
