"""Debian's Chromium, and tabs whose console must stay empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

TIMEOUT: Final = 60_000
"""Milliseconds for whatever is waited for."""
CONTRAST: Final = """
() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = channels(text).slice(0, 3).map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const words = [...element.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
    if (!words || !element.checkVisibility()) continue;
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) faint.push(`${element.outerHTML.slice(0, 80)}: ${ratio.toFixed(1)}`);
  }
  return faint;
}
"""
"""The elements whose text has a contrast below 4.5 to 1 (WCAG 2.2, 1.4.3)."""
NAMELESS: Final = """
() => [...document.querySelectorAll("button, summary, a, progress, input:not([type=hidden])")]
  .filter((each) => !(each.textContent.trim() || each.ariaLabel || each.labels?.length))
  .map((each) => each.outerHTML)
"""
"""The controls that a screen reader has no name for."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser without a window. Its sandbox needs another user than root."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A tab in a profile of its own. ``console``: what the browser complained about."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(TIMEOUT)
        self.console: list[str] = []
        self.page = self.open()

    def open(self) -> Page:
        """Open another tab of the same profile."""
        page = self.context.new_page()
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))
        return page


@contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Tab]:
    """Open a tab; at the end nothing may have been complained about, of Content-Security-Policy neither."""
    opened = Tab(browser, **options)
    try:
        yield opened
        assert opened.console == []
    finally:
        opened.context.close()
