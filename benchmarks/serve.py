"""Benchmark: the server against the analyzer in this process, and many clients against one.

    python benchmarks/serve.py [--bars throughput,half,idle,live,cold] [--images 64] [--clients 32]
        [--idle 500] [--soak 0]

Prints: throughput of so many clients on loopback / `analyze_many` on the same images; half: the time of an
answer at half of the rate that 32 clients reach, p99 / median; one client's time with idle connections open /
without; answers per second to frames of 640 x 480 sent one after the other, as the page's live mode does; the
time from the start to /ready / one cold `faceum analyze`. With --soak N, N seconds at full load instead,
with 5 % broken uploads, clients that hang up and clients that send byte by byte: printed are statuses, wrong
answers, and the server's memory on the way.
"""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
from in_turn import ROOT, options, stamp
from many_images import scene

from faceum.analyzer import FaceAnalyzer
from faceum.client import Client, ServerError

FRAME = (480, 640)

LIVE_FACE = 60
"""The page's MIN_FACE for the camera."""

ANSWERS = 200
"""Requests at half load."""

PAUSE = 0.2
"""Seconds between two requests of a client that hangs up; four of them hang up about 18 times a second."""


@contextmanager
def server(*words: str) -> Iterator[tuple[Client, int, int, float]]:
    """Start a server; yields its client, port, process id, and the seconds to /ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "faceum", "serve", "--port", str(port), *words]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    client = Client(f"http://127.0.0.1:{port}")
    try:
        while not client.is_ready():
            time.sleep(0.02)
        yield client, port, process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def seconds(call: Callable[[], object]) -> float:
    """Time a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def images(count: int) -> list[bytes]:
    """So many JPEG files of one to three faces, 640 x 480."""
    files = []
    for number in range(count):
        small = cv2.resize(scene(number), FRAME[::-1], interpolation=cv2.INTER_AREA)
        files.append(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return files


def frame_of_one_face() -> bytes:
    """Return the example portrait in a frame of 640 x 480, as a JPEG file."""
    portrait = cv2.resize(cv2.imread(str(ROOT / "examples" / "astronaut.png")), (480, 480))
    frame = cv2.copyMakeBorder(portrait, 0, 0, 80, 80, cv2.BORDER_REPLICATE)
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def throughput(client: Client, files: list[bytes], clients: int) -> None:
    """Print images per second next to those of `analyze_many`."""
    analyzer = FaceAnalyzer(device="cpu")
    list(analyzer.analyze_many(files[:8]))
    ratios = []
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(3):
            alone = seconds(lambda: list(analyzer.analyze_many(files)))
            served = seconds(lambda: list(pool.map(client.analyze, files)))
            ratios.append(alone / served)
    spread = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{clients} clients: throughput / analyze_many = {statistics.median(ratios):.2f} ({spread})")


def full_rate(client: Client, files: list[bytes], clients: int) -> float:
    """Return the images per second that so many clients are answered."""
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client.analyze, files[:8]))
        return len(files) / seconds(lambda: list(pool.map(client.analyze, files)))


def half_load(client: Client, files: list[bytes], rate: float) -> None:
    """Print p99 / median of the answers' times at half of a rate, sent at even intervals."""
    times: list[float] = []
    with ThreadPoolExecutor(32) as pool:
        for number in range(ANSWERS):
            pool.submit(
                lambda one=files[number % len(files)]: times.append(seconds(lambda: client.analyze(one)))
            )
            time.sleep(2 / rate)
    times.sort()
    median, p99 = statistics.median(times), times[int(0.99 * len(times))]
    load = f"half load, {rate / 2:.1f} images per second"
    print(f"{load}: p99 / median = {p99 / median:.2f} ({1e3 * p99:.0f} / {1e3 * median:.0f} ms)")


def compare_with_idle(client: Client, port: int, file: bytes, count: int) -> None:
    """Print one client's median time with idle connections open / without."""
    alone, crowded = [], []
    for _ in range(4):
        alone += [seconds(lambda: client.analyze(file)) for _ in range(10)]
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        crowded += [seconds(lambda: client.analyze(file)) for _ in range(10)]
        for connection in idle:
            connection.close()
    ratio = statistics.median(crowded) / statistics.median(alone)
    print(f"{count} idle connections: time / alone = {ratio:.2f}")


def cold_start(to_ready: float) -> None:
    """Print the seconds to /ready / those of one cold `faceum analyze`."""
    command = [sys.executable, "-m", "faceum", "analyze", str(ROOT / "examples" / "astronaut.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    runs = []
    for _ in range(3):
        runs.append(
            seconds(lambda: subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True))
        )
    cold = statistics.median(runs)
    print(f"to /ready / cold analyze = {to_ready / cold:.2f} ({to_ready:.2f} / {cold:.2f} s)")


def live(client: Client, file: bytes) -> None:
    """Print the rate of one frame after the other, searched as the page does, and wholly."""
    for min_face in (LIVE_FACE, None):
        taken = seconds(lambda least=min_face: [client.analyze(file, min_face=least) for _ in range(30)])
        print(f"frames one after the other, min_face {min_face}: {30 / taken:.1f} answers per second")


def resident(process: int) -> float:
    """Megabytes that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(client: Client, port: int, process: int, files: list[bytes], length: float) -> None:
    """Load the server for `length` seconds and print what happened."""
    expected = [[tuple(face.box) for face in client.analyze(file)] for file in files]
    counts: Counter[str] = Counter()
    end = time.monotonic() + length

    def honest(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            number = chance.randrange(len(files))
            broken = chance.random() < 0.05
            content = files[number][: len(files[number]) // 2] if broken else files[number]
            try:
                boxes = [tuple(face.box) for face in client.analyze(content)]
                counts["200" if boxes == expected[number] else "wrong answer"] += 1
            except ServerError as error:
                counts[str(error.status)] += 1
                time.sleep(0.05)

    def rude(slow: bool) -> None:
        head = f"POST /v1/analyze HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(files[0])}\r\n\r\n"
        while time.monotonic() < end:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                if slow:
                    for letter in head[:20].encode():
                        connection.sendall(bytes([letter]))
                        time.sleep(0.2)
                else:
                    connection.sendall(head.encode() + files[0])
                    time.sleep(0.02)
            counts["slow" if slow else "hung up"] += 1
            time.sleep(0 if slow else PAUSE)

    threads = [threading.Thread(target=honest, args=(seed,)) for seed in range(24)]
    threads += [threading.Thread(target=rude, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    held = []
    while time.monotonic() < end:
        time.sleep(length / 20)
        held.append(resident(process))
    for thread in threads:
        thread.join()
    print(dict(counts))
    print("megabytes held:", [round(one) for one in held])


def main() -> None:
    """Time and print."""
    given = options(__doc__, bars="throughput,half,idle,live,cold", images=64, clients=32, idle=500, soak=0)
    bars = given.bars.split(",")
    stamp()
    files = images(given.images)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        with server() as (client, port, process, to_ready):
            if given.soak:
                soak(client, port, process, files, given.soak)
                bars = []
            if "throughput" in bars:
                throughput(client, files, given.clients)
            if "half" in bars:
                half_load(client, files, full_rate(client, files, given.clients))
            if "idle" in bars:
                compare_with_idle(client, port, files[0], given.idle)
            if "live" in bars:
                live(client, frame_of_one_face())
            if "cold" in bars:
                cold_start(to_ready)
        print("files left:", os.listdir(folder))


if __name__ == "__main__":
    main()
