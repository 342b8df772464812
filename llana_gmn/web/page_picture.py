"""A picture of the page in use, for the README: an object is chosen and asked about, in a browser without a screen.

    python scripts/picture_of_page.py --out docs/serve.png

Needs Debian's ``chromium`` and ``chromium-driver``, and the package selenium.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gmn_encoder.extras import require
from gmn_encoder.files import write_bytes

from ..checkpoints.loading import load_model
from ..default.objects import default_model_path, default_nerfs_path
from .server import running
from .state import Service
from .suggestions import QUESTIONS

_WAIT = 300.0


def picture_of_page(
    *,
    out: Path,
    model: Path | None = None,
    nerfs: Path | None = None,
    chosen: int = 0,
    questions: Sequence[str] = QUESTIONS[:2],
    width: int = 1280,
    height: int = 800,
) -> None:
    """Serve the page, choose, ask, and write what the browser shows.

    Args:
        out: the PNG file.
        model: directory of the model; None for the one that ships.
        nerfs: directory of the gallery's NeRFs; None for those that ship.
        chosen: place of the NeRF in the gallery.
        questions: what is asked about it.
        width, height: of the browser's window, pixels.

    Raises:
        FileNotFoundError: no browser, or no driver of it.
        ImportError: selenium is not installed.
        TimeoutError: the page does not show what it should.
    """
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"{program}: no such program; install Debian's package {package}")
    with Service(*load_model(model or default_model_path())) as service:
        service.gallery.fill(nerfs or default_nerfs_path())
        with running(service, port=0) as address:
            driver = _browser(width, height)
            try:
                driver.get(address)
                _use(driver, service.gallery.entries[chosen].name, chosen, questions)
                write_bytes(driver.get_screenshot_as_png(), out)
            finally:
                driver.quit()


def _browser(width: int, height: int) -> Any:
    webdriver: Any = require("selenium.webdriver", "picture")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return driver


def _use(driver: Any, name: str, chosen: int, questions: Sequence[str]) -> None:
    def all_of(selector: str) -> list[Any]:
        return list(driver.find_elements("css selector", selector))

    tiles = _waited("the gallery", lambda: len(found := all_of("#gallery img")) > chosen and found)
    driver.execute_script("arguments[0].closest('button').click()", tiles[chosen])
    _waited(name, lambda: any(name in each.text for each in all_of("#facts")))
    _waited("its picture", lambda: [each for each in all_of(".turning img") if each.get_attribute("src")])
    for number, question in enumerate(questions, 1):
        _waited("the question", lambda: all_of("#question textarea"))[0].send_keys(f"{question}\n")
        _waited(f"answer {number}", functools.partial(_answered, driver, number))


def _answered(driver: Any, count: int) -> bool:
    """Whether there are so many answers, and the conversation stays as it is for a second."""
    if len(driver.find_elements("css selector", "#chat .bot.message")) < count:
        return False
    before = driver.find_element("css selector", "#chat").text
    time.sleep(1.0)
    return bool(before == driver.find_element("css selector", "#chat").text)


def _waited(what: str, condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + _WAIT
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"the page does not show {what} after {_WAIT:.0f} s")
