"""docs/images from the page itself, as the demo serves it: `make screenshots`, or

    python -m tests.browser.screenshots FOLDER [URL]

Without a URL of a running service the finished demo in reco-demo/ is served (`reco demo --no-serve` makes it).
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
WIDTHS = {1280: 900, 390: 844}
COLOURS = 128  # a palette is a third of the size, and nobody sees it
READY = {"try": "#details .times", "memory": "#sample li img", "evaluation": "#evaluation-task table"}
# The first screens of a view: what a reader of the documentation should see.
HEIGHTS = {"try": {1280: 1250, 390: 1500}, "memory": {1280: 1250, 390: 1500}, "evaluation": {1280: 1500, 390: 1700}}


@contextmanager
def demo(directory: Path) -> Iterator[str]:
    """The finished demo, served on a free port."""
    settings = directory / "serve.env"
    if not settings.is_file():
        sys.exit(f"{directory} is no finished demo: make one with `reco demo -d {directory} --no-serve`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = dict(line.split("=", 1) for line in settings.read_text().splitlines())
    process = subprocess.Popen(
        [sys.executable, "-m", "reco.cli", "serve"], env=os.environ | own | {"RECO_PORT": str(port)}
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def take(browser: Any, url: str, folder: Path) -> None:
    """Every view at every width."""
    for width, height in WIDTHS.items():
        for view, ready in READY.items():
            page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
            page.goto(f"{url}/#{view}")
            page.wait_for_selector(ready)
            page.evaluate("document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; })")
            page.wait_for_load_state("networkidle")
            path = folder / f"{view}-{width}.png"
            whole = page.evaluate("document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": width, "height": min(whole, HEIGHTS[view][width])}
            page.screenshot(path=path, full_page=True, clip=clip)
            page.close()
            with Image.open(path) as shot:
                small = shot.convert("RGB").quantize(COLOURS)
            small.save(path, optimize=True)


def main(folder: str, url: str | None = None) -> None:
    """Take them all."""
    path = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no Chromium: install `chromium`")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        if url is not None:
            take(browser, url, place)
        else:
            with demo(ROOT / "reco-demo") as served:
                take(browser, served, place)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
