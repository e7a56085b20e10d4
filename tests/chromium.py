"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS: Final = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
QUIET: Final = ("--disable-component-update", "--disable-sync", "--no-default-browser-check")

needs_browser: Final = [
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine"),
    pytest.mark.skipif(not find_spec("playwright"), reason="playwright is not installed"),
]


@contextmanager
def launched() -> Iterator[Browser]:
    """Run Chromium until the block ends."""
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not work for root.
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *QUIET, *root])
        yield browser
        browser.close()
