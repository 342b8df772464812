"""The page in a real browser (Debian's chromium, selenium); skipped where either is missing."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from gmn_encoder.nerfs.record import Nerf
from tests.encoder.fitting.test_single import CUBE

selenium = pytest.importorskip("selenium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"),
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs chromium-driver"),
]


@pytest.fixture(scope="module")
def address(service):
    from llana_gmn.web.server import running

    with running(service, port=0) as address:
        yield address


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["desktop", "phone"])
def page(request, address):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    width, height = request.param
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(address)
    yield driver
    driver.quit()


def wait(driver, condition, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition(driver):
            return found
        time.sleep(0.2)
    raise AssertionError(f"not there after {seconds} s: {driver.find_element('tag name', 'body').text}")


def all_of(selector):
    return lambda driver: driver.find_elements("css selector", selector)


def text_in(selector, text):
    return lambda driver: any(text in element.text for element in all_of(selector)(driver))


def test_choose_ask_and_upload(page, service, session, sent):
    tiles = wait(page, lambda driver: len(found := all_of("#gallery img")(driver)) == 6 and found)
    page.execute_script("arguments[0].closest('button').click()", tiles[3])
    chosen = service.gallery.entries[3]
    wait(page, text_in("#facts", chosen.name))
    wait(page, lambda driver: any(".gif" in image.get_attribute("src") for image in all_of(".turning img")(driver)))
    question = wait(page, all_of("#question textarea"))[0]
    question.send_keys("What is it?\n")
    session.choose(chosen.key)
    expected = list(session.ask("What is it?"))[-1].strip()
    wait(page, text_in("#chat", expected[-6:]))
    chooser = all_of("input[type=file]")(page)[0]
    chooser.send_keys(str(sent("broken.pth", b"nothing")))
    wait(page, text_in(".toast-wrap", "broken.pth: refused, a pickle that torch.save did not write"))
    all_of("input[type=file]")(page)[0].send_keys(str(sent("mine.pth", Nerf.random("MLP-nano", seed=9))))
    wait(page, text_in("#facts", "mine"))
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    hosts = set()
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            hosts.add(message["params"]["request"]["url"].split("?")[0])
    assert [url for url in hosts if not url.startswith(("http://127.0.0.1", "data:", "blob:"))] == []
    assert [entry["message"] for entry in page.get_log("browser") if "Content Security" in entry["message"]] == []


def test_a_mesh_is_uploaded_fitted_and_asked_about(page, sent, monkeypatch):
    from gmn_encoder.fitting import presets

    quick = {**presets._BY_PRESET["nano"], "iterations": 60, "views": 8, "size": 32}
    monkeypatch.setitem(presets._BY_PRESET, "nano", quick)
    wait(page, all_of("#gallery img"))
    all_of("input[type=file]")(page)[0].send_keys(str(sent("my cube.ply", CUBE.encode())))
    wait(page, text_in("#facts", "my cube"))
    wait(page, lambda driver: any(".gif" in image.get_attribute("src") for image in all_of(".turning img")(driver)))
    wait(page, all_of("#question textarea"))[0].send_keys("What colour is it?\n")
    wait(page, lambda driver: all_of("#chat")(driver)[0].text.partition("What colour is it?")[2].strip())
    assert not text_in(".toast-wrap", "That did not work")(page)


def test_compare_and_look_alikes(page):
    wait(page, all_of("#gallery img"))
    tabs = {tab.text: tab for tab in all_of("button[role=tab]")(page) if tab.text}
    tabs["Compare two"].click()
    wait(page, lambda driver: len([i for i in all_of(".turning img")(driver) if i.is_displayed()]) == 2)
    page.execute_script("document.querySelector('#compared button').click()")
    answers = "About the first", "About the second", "About both together"

    def answered(driver):
        fields = driver.find_elements("css selector", "label.container, .block")
        labelled = [f for f in fields if any(f.text.startswith(answer) for answer in answers)]
        return sum(bool(f.find_elements("tag name", "textarea")[0].get_attribute("value")) for f in labelled) >= 3

    wait(page, answered)
    tabs["Look-alikes"].click()
    assert len(wait(page, lambda driver: len(found := all_of("#near img")(driver)) == 5 and found)) == 5
