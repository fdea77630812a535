"""Benchmark: the page of `faceum serve` in headless Chromium, by Playwright.

    python benchmarks/serve_page.py [--loads 7] [--live 20] [--browser /usr/bin/chromium]

Prints: the weight of the page's files with the example image; the time from opening the page, on a warm
server, until the example is analyzed and drawn, if it is clicked as soon as the page has loaded; answers per
second in live mode, with the example portrait in front of the camera, 640 x 480, all six tasks, after --live
seconds.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from in_turn import ROOT, options, stamp
from playwright.sync_api import Browser, sync_playwright

from serve import frame_of_one_face, server

CLICK_AND_TIME = """
addEventListener("load", () => document.getElementById("example").click());
new MutationObserver(() => {
  if (window.drawn === undefined && /found/.test(document.getElementById("status")?.textContent ?? "")) {
    window.drawn = 0;
    requestAnimationFrame(() => requestAnimationFrame(() => (window.drawn = performance.now())));
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
"""Runs in the page before its own code."""


def load(browser: Browser, url: str) -> float:
    """Open the page with an empty cache and return the seconds until the example is drawn."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(CLICK_AND_TIME)
    page = context.new_page()
    page.goto(url)
    page.locator("#status", has_text="found").wait_for()
    page.wait_for_timeout(500)
    spent: float = page.evaluate("window.drawn") / 1e3
    context.close()
    return spent


def watch(browser: Browser, url: str, length: int) -> str:
    """Return what live mode says of its rate after so many seconds."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["camera"])
    page = context.new_page()
    page.goto(url)
    page.locator("#model:not(:empty)").wait_for()
    page.click("#camera")
    page.locator("#rate", has_text="one face").wait_for()
    page.wait_for_timeout(1000 * length)
    rate = page.inner_text("#rate")
    context.close()
    return rate


def main() -> None:
    """Time and print."""
    given = options(__doc__, loads=7, live=20, browser="/usr/bin/chromium")
    stamp()
    with (
        tempfile.TemporaryDirectory() as folder,
        server() as (_, port, _, _),
        sync_playwright() as playwright,
    ):
        video = Path(folder) / "portrait.mjpeg"
        video.write_bytes(frame_of_one_face() * 2)
        arguments = [
            "--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={video}",
        ]  # fmt: skip
        browser = playwright.chromium.launch(executable_path=given.browser, args=arguments)
        url = f"http://127.0.0.1:{port}/"
        load(browser, url)  # warms the server
        times = sorted(load(browser, url) for _ in range(given.loads))
        weight = sum(file.stat().st_size for file in (ROOT / "src" / "faceum" / "serve" / "page").iterdir())
        print(f"page weight with the example: {weight / 1e3:.1f} kB")
        print(f"example drawn after {statistics.median(times):.2f} s ({times[0]:.2f}-{times[-1]:.2f})")
        print(f"live: {watch(browser, url, given.live)}")
        browser.close()


if __name__ == "__main__":
    main()
