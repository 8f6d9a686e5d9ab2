"""A page in headless Chromium, driven over its DevTools protocol through a pair of pipes."""

import base64
import json
import os
import select
import shutil
import subprocess

PATIENCE = 120
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One tab. `requests` holds the address of everything that pages asked for."""

    def __init__(self, profile, *more):
        there, self._send = os.pipe()
        self._receive, back = os.pipe()
        options = "--headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe"
        options = " ".join([options, *more])
        command = f'exec "$0" {options} "$1" 3<&{there} 4>&{back} 2>/dev/null'
        self._process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, f"--user-data-dir={profile}"], pass_fds=(there, back)
        )
        os.close(there), os.close(back)
        self._buffer, self._count, self._session, self.requests = b"", 0, None, []
        self._loaded = False
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters) -> dict:
        """What a method of the protocol answers."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], PATIENCE)
            assert ready, f"the browser says nothing for {PATIENCE} s"
            more = os.read(self._receive, 1 << 20)
            assert more, "the browser ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(message)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        self._loaded |= message.get("method") == "Page.loadEventFired"
        return message

    def open(self, path, *, width: int, media: str = "screen", dark: bool = False) -> None:
        """Load a file anew, in a window of a width."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self("Emulation.setDeviceMetricsOverride", **size, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._loaded = False
        self("Page.navigate", url=path.as_uri())
        while not self._loaded:  # a small page is before the answer
            self._next()

    def run(self, script: str):
        """The value of an expression; promises are waited for."""
        how = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """What is on the screen, as PNG."""
        return base64.b64decode(self("Page.captureScreenshot")["data"])

    def pdf(self) -> bytes:
        printed = self("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(printed["data"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._send), os.close(self._receive)
