"""A page in a real browser: what it says, what goes wrong there, what it looks like."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or ""
SHOTS = Path(__file__).resolve().parents[3] / "build" / "report"

HEADLESS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

#: A page that is read or shown once: until nothing more happens there.
FLAGS = (*HEADLESS, "--virtual-time-budget=4000")

DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")

#: Runs before the page's own scripts and leaves what went wrong in the document.
PROBE = """<script>
window.addEventListener("error", (event) => note("error " + event.message));
window.addEventListener("unhandledrejection", (event) => note("error " + event.reason));
document.addEventListener("securitypolicyviolation", (event) => note("request " +
event.blockedURI)); for (const level of ["error", "warn"]) console[level] = (...words) =>
note(level + " " + words.join(" ")); function note(text) { document.documentElement.dataset.trouble
= (document.documentElement.dataset.trouble || "") + text + "|"; } </script>"""

#: What scripts of tests use.
TOOLS = """
  const byId = (id) => document.getElementById(id);
  const text = (id) => byId(id).textContent;
  const press = (id, value) => document.querySelector(`#${id} [data-value="${value}"]`).click();
  const pick = (id, value) => {
    byId(id).value = value; byId(id).dispatchEvent(new Event("change"));
  };
  const type = (id, value) => {
    byId(id).value = value; byId(id).dispatchEvent(new Event("input"));
  };
  const key = (id, name, more) => byId(id).dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true, ...more }));
  const pause = () => new Promise((done) => setTimeout(done, 300));  // also d3 swallows clicks
  const frames = () => livedump.views.flame.frames();
  const drag = ([x0, y0], [x1, y1]) => {  // shares of the heat map's width and height
    const overlay = document.querySelector("#heat .overlay"), box = overlay.getBoundingClientRect();
    const at = (x, y) => ({ bubbles: true, view: window,
      clientX: box.left + x * box.width, clientY: box.top + y * box.height });
    overlay.dispatchEvent(new MouseEvent("mousedown", at(x0, y0)));
    window.dispatchEvent(new MouseEvent("mousemove", at(x1, y1)));
    window.dispatchEvent(new MouseEvent("mouseup", at(x1, y1)));
  };
  const rows = (id) => [...document.querySelectorAll(`#${id} tbody tr`)].map(
    (row) => [...row.children].map((cell) => cell.textContent));
"""


def chromium(page: Path, *extra: str, fragment: str = "") -> str:
    """Run chromium on a page and return what it prints."""
    assert CHROMIUM, "chromium is missing: make setup installs it"
    profile = page.with_suffix(".profile")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *extra, page.as_uri() + fragment],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def probed(page: Path, tail: str = "") -> Path:
    """The page with :data:`PROBE` before and a script *tail* after its own scripts."""
    text = page.read_text()
    assert text.count("<style>") == 1
    text = text.replace("<style>", PROBE + "<style>").replace("</body>", f"{tail}</body>")
    file = page.with_name(f"probed-{len(tail)}.html")
    file.write_text(text)
    return file


def trouble(dom: str) -> str:
    """What :data:`PROBE` noted."""
    found = re.search(r'data-trouble="([^"]*)"', dom[:10_000])
    return found[1] if found else ""


def framed(page: Path, width: int, height: int) -> Path:
    """A page that shows *page* in a frame: a headless browser's window is 500 px wide at least."""
    file = page.with_name(f"framed-{page.name}")
    file.write_text(
        f"""<!doctype html><html lang="en"><style>body {{ margin: 0 }}</style>
        <iframe src="{page.name}" width="{width}" height="{height}" style="border: 0"></iframe>
        <script>addEventListener("message", (event) =>
          Object.assign(document.documentElement.dataset, event.data));</script></html>"""
    )
    return file


def result_of(
    page: Path, script: str, *extra: str, fragment: str = "", size: tuple[int, int] = (1280, 2600)
) -> Any:
    """What an asynchronous *script* with :data:`TOOLS` has put into ``result``; nothing went wrong
    there."""
    tail = f"""<script>(async () => {{ {TOOLS} const result = {{}};
      {script}
      document.documentElement.dataset.result = JSON.stringify(result);
      parent.postMessage({{ ...document.documentElement.dataset }}, "*");
    }})();</script>"""
    file, width, height = probed(page, tail), *size
    if width < 500:
        file = framed(file, width, height)
    size_flag = f"--window-size={width},{height}"
    dom = chromium(file, "--dump-dom", size_flag, *extra, fragment=fragment)
    assert not trouble(dom), trouble(dom)
    found = re.search(r'data-result="([^"]*)"', dom[:20_000])
    assert found, "the script did not come to its end"
    return json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))


def body(dom: str) -> str:
    """The document without its style and scripts."""
    return dom[dom.index("<body>") : dom.index('<script id="data"')]


def shot(page: Path, name: str, size: tuple[int, int], *extra: str, fragment: str = "") -> Path:
    """A picture for people to look at."""
    width, height = size
    if width < 500:
        page = framed(page, width, height)
    SHOTS.mkdir(parents=True, exist_ok=True)
    file = SHOTS / f"{name}.png"
    file.unlink(missing_ok=True)
    chromium(
        page,
        f"--screenshot={file}",
        f"--window-size={max(width, 500)},{height}",
        *extra,
        fragment=fragment,
    )
    return file
