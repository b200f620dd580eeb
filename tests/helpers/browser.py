"""A headless Chromium driven by clicks and keys over the WebDriver protocol (W3C); no tests are here.

Of chromedriver's own there is one command in use, to run a command of the DevTools protocol.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

#: The key of an element in WebDriver's JSON.
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
TAB: Final = "\ue004"
ENTER: Final = "\ue007"
LEFT: Final = "\ue012"
#: Seconds that a page has to become what a test waits for.
PATIENCE: Final = 10


def missing() -> str | None:
    """Why there is no browser here; None: there is one."""
    if shutil.which("chromedriver") is None or program() is None:
        return "no Chromium with its chromedriver here: apt-get install chromium chromium-driver"
    return None


@cache
def program() -> str | None:
    """Where Chromium is, by whichever of its names: of several the one that chromedriver is made for."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [path for name in names if (path := shutil.which(name))]
    if len(found) > 1:
        driver = _major("chromedriver")
        found.sort(key=lambda path: _major(path) != driver)
    return found[0] if found else None


def _major(command: str) -> str | None:
    said = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    number = re.search(r"(\d+)\.\d", said)
    return number[1] if number else None


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def ask(self, method: str, path: str, **given: Any) -> Any:
        """A command of WebDriver.

        Raises:
            AssertionError: what the driver says of it.
        """
        body = json.dumps(given).encode() if method == "POST" else None
        request = Request(f"{self._session}{path}", body, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        try:
            with urlopen(request, timeout=60) as answer:  # noqa: S310 - chromedriver on loopback
                return json.load(answer)["value"]
        except HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def open(self, url: str) -> None:
        self.ask("POST", "/url", url=url)

    @property
    def url(self) -> str:
        return str(self.ask("GET", "/url"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.ask("POST", "/execute/sync", script=script, args=list(arguments))

    def wait(self, script: str) -> Any:
        """What a script returns, once that is something."""
        end = time.monotonic() + PATIENCE
        while True:
            value = self.run(f"return {script}")
            if value:
                return value
            assert time.monotonic() < end, f"in vain: {script} at {self.url}"
            time.sleep(0.05)

    def _find(self, selector: str) -> str:
        return str(self.ask("POST", "/element", using="css selector", value=selector)[_ELEMENT])

    def click(self, selector: str) -> None:
        self.ask("POST", f"/element/{self._find(selector)}/click")

    def follow(self, selector: str) -> None:
        """Clicks what leads to another page and waits until that page stands: a click returns before the way there
        has begun."""
        left = self._find("html")
        self.click(selector)
        end = time.monotonic() + PATIENCE
        while self._stands(left):
            assert time.monotonic() < end, f"{selector} led nowhere from {self.url}"
            time.sleep(0.05)

    def _stands(self, element: str) -> bool:
        try:
            self.ask("GET", f"/element/{element}/name")
        except AssertionError:
            return False
        return True

    def type(self, selector: str, text: str) -> None:
        self.ask("POST", f"/element/{self._find(selector)}/value", text=text)

    def press(self, *keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def text(self, selector: str = "body") -> str:
        return str(self.ask("GET", f"/element/{self._find(selector)}/text"))

    def size(self, width: int, height: int) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def dark(self, wanted: bool = True) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[feature])

    def scripts(self, wanted: bool) -> None:
        self.devtools("Emulation.setScriptExecutionDisabled", value=not wanted)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.ask("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def complaints(self) -> list[str]:
        """What the browser wrote into its console since the last look: errors of scripts, refusals of the policy."""
        return [entry["message"] for entry in self.ask("POST", "/se/log", type="browser") if entry["level"] == "SEVERE"]

    def picture(self, path: Path, whole: bool = True) -> None:
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(shot))


@contextmanager
def browser() -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory(prefix="bts-browser-") as profile:
        driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile}, start_new_session=True,
        )  # fmt: skip
        window = None
        try:
            window = Browser(f"http://127.0.0.1:{port}/session/{_session(port, profile)}")
            yield window
        finally:
            if window is not None:
                window.ask("DELETE", "")
            driver.terminate()
            try:
                driver.wait(10)
            except subprocess.TimeoutExpired:  # on a busy machine it waits for a window that is gone
                driver.kill()
                driver.wait(10)


def _session(port: int, profile: str) -> str:
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    arguments += [f"--user-data-dir={profile}/profile", "--window-size=1280,900"]
    if os.geteuid() == 0:  # Chromium's sandbox is not for root
        arguments.append("--no-sandbox")
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": {"args": arguments, "binary": program()},
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    service = Browser(f"http://127.0.0.1:{port}")
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return str(service.ask("POST", "/session", capabilities={"alwaysMatch": wanted})["sessionId"])
        except URLError:
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)
