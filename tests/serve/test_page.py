"""The page in headless Chromium, served by a real process with the shipped network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

CHROMIUM = Path(os.environ.get("FACEUM_CHROMIUM", "/usr/bin/chromium"))
"""The browser; Debian's package `chromium`."""

ROOT = Path(__file__).resolve().parents[2]

AXE = ROOT / "tools" / "page" / "node_modules" / "axe-core" / "axe.min.js"
"""From the npm package axe-core; `make check` installs it."""

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream", "--enable-precise-memory-info", "--js-flags=--expose-gc",
]  # fmt: skip

WAIT = 120_000
"""Milliseconds; a busy machine is slow, and no test depends on speed."""

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}; see FACEUM_CHROMIUM"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a gallery and a limit of 2 MB."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gallery = tmp_path_factory.mktemp("gallery") / "people.sqlite"
    command = [sys.executable, "-m", "faceum", "serve", "--port", str(port), "--gallery", str(gallery)]
    process = subprocess.Popen([*command, "--max-bytes", "2000000"], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def browser(portrait_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests; the example portrait is in front of its camera."""
    video = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    portrait = cv2.resize(cv2.imread(str(portrait_path)), (480, 480))
    frame = cv2.copyMakeBorder(portrait, 0, 0, 80, 80, cv2.BORDER_REPLICATE)
    video.write_bytes(cv2.imencode(".jpg", frame)[1].tobytes() * 2)
    arguments = [*ARGUMENTS, f"--use-file-for-fake-video-capture={video}"]
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Callable[..., Any]]:
    """Open the page in a context of its own; in the end nothing has failed or was asked elsewhere."""
    contexts, complaints = [], []

    def start(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith((url, "blob:", "data:"))
                else None
            ),
        )
        page.goto(url)
        page.locator("#model:not(:empty)").wait_for()
        return page

    yield start
    for context in contexts:
        context.close()
    assert not complaints


def two_faces(portrait: np.ndarray) -> bytes:
    """Return the example portrait next to its mirror image, as a JPEG file."""
    pair = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    return cv2.imencode(".jpg", pair[..., ::-1])[1].tobytes()


def upload(page: Any, name: str, content: bytes) -> None:
    """Choose one file."""
    page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": content})


def status(page: Any, words: str) -> None:
    """Wait until the page says something with these words."""
    page.locator("#status", has_text=words).wait_for()


def serious(page: Any) -> list[str]:
    """What axe-core finds that is serious or critical."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{one['id']}: {one['help']}" for one in found if one["impact"] in ("serious", "critical")]


def test_example_is_one_click_away(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#example")
    status(page, "One face found.")
    assert "Happiness" in page.inner_text(".card .first")
    assert 10 < int(page.inner_text(".age").split()[0]) < 50
    drawn = (
        "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.some(Boolean)"
    )
    assert page.eval_on_selector("#sheets .stage canvas", drawn)
    for layer in ("box", "landmarks", "parsing"):
        page.uncheck(f"[value={layer}]")
    assert not page.eval_on_selector("#sheets .stage canvas", drawn)


def test_parts_are_named_under_the_pointer(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#example")
    status(page, "One face found.")
    area = page.locator("#sheets .stage canvas").bounding_box()
    page.mouse.move(area["x"] + area["width"] * 223 / 512, area["y"] + area["height"] * 125 / 512)
    assert page.inner_text(".part") == "nose"


def test_two_faces_are_compared(open_page: Callable[..., Any], portrait: np.ndarray) -> None:
    page = open_page()
    upload(page, "pair.jpg", two_faces(portrait))
    status(page, "2 faces found.")
    assert page.locator(".card").count() == 2
    verdict = page.locator(".verdict").first.inner_text()
    assert "osine 0.9" in verdict and "Different" not in verdict


def test_faces_of_two_photos_are_compared(open_page: Callable[..., Any], portrait: np.ndarray) -> None:
    page = open_page()
    page.click("#example")
    status(page, "One face found.")
    upload(page, "mirrored.jpg", cv2.imencode(".jpg", portrait[:, ::-1, ::-1])[1].tobytes())
    page.locator("#sheets h2", has_text="mirrored.jpg").wait_for()
    for card in page.locator("article.card").all():
        assert "Same person" in card.locator(".verdict").inner_text()


def test_experts_are_drawn_and_named(open_page: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    page = open_page()
    page.click("#example")
    status(page, "One face found.")
    page.check("[value=experts]")
    status(page, "which expert took each token")
    for layer in ("box", "landmarks"):
        page.uncheck(f"[value={layer}]")
    assert not page.is_checked("[value=parsing]")
    drawn = "(canvas) => canvas.toDataURL()"
    first = page.eval_on_selector("#sheets .stage canvas", drawn)
    area = page.locator("#sheets .stage canvas").bounding_box()
    page.mouse.move(area["x"] + area["width"] * 223 / 512, area["y"] + area["height"] * 125 / 512)
    assert page.inner_text(".part").startswith("Face token: expert ")
    page.select_option("#expert-block", "1")
    assert page.eval_on_selector("#sheets .stage canvas", drawn) != first
    assert page.locator("#expert-legend li").count() > 1


def test_no_face_broken_and_too_large(open_page: Callable[..., Any]) -> None:
    page = open_page()
    sky = cv2.imencode(".jpg", np.full((200, 300, 3), 200, np.uint8))[1].tobytes()
    upload(page, "sky.jpg", sky)
    status(page, "no face")
    upload(page, "broken.jpg", b"hello")
    status(page, "broken.jpg is not an image")
    upload(page, "large.jpg", bytes(2_000_001))
    status(page, "large.jpg is larger than")


def test_gallery_goes_round(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#example")
    status(page, "One face found.")
    page.fill(".card input", "Eileen <b>")
    page.click(".card button")
    status(page, "Eileen <b> is enrolled.")
    page.click("#example")
    page.locator(".card", has_text="Nearest people").first.wait_for()
    assert "Eileen <b> 1.00" in page.locator("article:first-child .card").inner_text()
    page.click("#people-list button")
    status(page, "Eileen <b> is removed.")
    page.locator("#people-list", has_text="Nobody yet.").wait_for()


def test_keyboard_is_enough(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "example":
            break
    page.keyboard.press("Enter")
    status(page, "One face found.")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "contested":
            break
    page.keyboard.press("Space")
    page.locator(".chips .contested").first.wait_for()


def test_it_fits_a_phone_and_the_dark(open_page: Callable[..., Any]) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.click("#example")
    status(page, "One face found.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(json.loads(f"[{ground.removeprefix('rgb(').removesuffix(')')}]")) < 150


def test_downloads_hold_the_answers(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#example")
    status(page, "One face found.")
    saved = {}
    for kind in ("json", "csv", "png"):
        with page.expect_download() as waiting:
            page.click(f"#save-{kind}")
        saved[kind] = Path(waiting.value.path()).read_bytes()
    (result,) = json.loads(saved["json"])
    assert result["schema"] == "faceum.result/2" and len(result["faces"]) == 1
    assert saved["csv"].decode("utf-8-sig").splitlines()[1].startswith("Example,1,")
    assert cv2.imdecode(np.frombuffer(saved["png"], np.uint8), 1).shape == (512, 512, 3)


def test_camera_answers_and_its_memory_is_flat(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#camera")
    status(page, "The camera is on.")
    page.locator("#rate", has_text="answers per second, one face").wait_for()
    assert page.locator("#live-cards .card").count() == 1
    used = []
    for _ in range(7):
        page.wait_for_timeout(5000)
        used.append(page.evaluate("gc(), performance.memory.usedJSHeapSize"))
    assert page.locator("#live-cards .card").count() == 1
    assert used[-1] < used[0] + 5e6, used
    page.click("#stop")
    assert page.evaluate("document.getElementById('video').srcObject") is None


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core, which `make check` installs by npm")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Callable[..., Any], portrait: np.ndarray, scheme: str) -> None:
    page = open_page(color_scheme=scheme, bypass_csp=True)
    assert not serious(page)
    upload(page, "pair.jpg", two_faces(portrait))
    status(page, "2 faces found.")
    page.check("[name=contested]")
    assert not serious(page)


def test_a_video_shows_its_people_over_time(
    open_page: Callable[..., Any], portrait: np.ndarray, tmp_path: Path
) -> None:
    from tests.serve.fakes import encode_clip

    pytest.importorskip("av", reason="PyAV is not installed")
    clip = tmp_path / "clip.mp4"
    small = cv2.resize(portrait, (240, 240))
    clip.write_bytes(encode_clip(np.roll(small, index, axis=1) for index in range(20)))
    page = open_page()
    page.set_input_files("#file", str(clip))
    status(page, "The video shows one person.")
    width = "(image) => image.decode().then(() => image.naturalWidth)"
    assert page.eval_on_selector(".timeline img", width) == 1280
    assert "Track 1" in page.inner_text(".card h3")
    assert "Apparent age" in page.inner_text(".card")
    page.click(".card button")
    if AXE.exists():
        assert serious(page) == []
    page.click("#clear")
    assert page.locator(".timeline").count() == 0
