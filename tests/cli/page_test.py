#!/usr/bin/env python3
"""Opens the page of a report in a browser and looks for the report's figures.

    page_test.py REPORT.json PAGE.html

What it expects is reckoned here, from the JSON alone.
"""

import json
import sys
import xml.etree.ElementTree as xml

from browser import Browser

WIDTHS = (1100, 768, 360, 320)
TEXT = "document.body.innerText"


def count(number):
    return f"{number:,}"


def percent(ratio):
    return f"{ratio * 100:.2f} %"


def size(number):
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.95:
            return f"{number:.1f} {unit}" if unit != "B" else f"{number} B"
        number /= 1000
    raise ValueError


def figures(report):
    """Strings that a reader must find in the text of the page."""
    source, result = report["source"], report["result"]
    overall = report["overall"]
    yield from (result["name"], source["name"], report["fp8cast"])
    for side in (source, result):
        yield from (count(side["tensors"]), count(side["bytes"]),
                    size(side["bytes"]))
    for key in ("fp8_weights", "kept", "parameters"):
        yield count(result[key])
    yield f"{source['bytes'] / result['bytes']:.3f}"
    yield percent(overall["relative_rms"])
    yield percent(overall["median_relative_error"])
    yield f"{overall['sqnr_db']:.2f}"
    yield f"{overall['cosine']:.8f}"
    for kind in report["kinds"]:
        yield kind["name"]
        yield f"{kind['cosine']:.6f}"
    for i in report["worst"]:
        tensor = report["tensors"][i]
        row, column = tensor["worst_block"]["at"]
        rows, columns = tensor["shape"]
        yield tensor["name"]
        yield percent(tensor["worst_block"]["relative_rms"])
        yield f"rows {row * 128}–{min(row * 128 + 128, rows) - 1}"
        yield f"columns {column * 128}–{min(column * 128 + 128, columns) - 1}"
    for rule in report["rules"]:
        yield rule["rule"]


def check_text(browser, report):
    text = browser.value(TEXT)
    for wanted in figures(report):
        assert wanted in text, f"not on the page: {wanted}"


def check_heatmap(browser, report, drawing):
    """Each cell's title, in the drawing that is shown at this width."""
    shown = browser.value(
        "[...document.querySelectorAll('svg.heat')].filter(e => "
        "e.getBoundingClientRect().width > 0).map(e => "
        "e.getAttribute('class'))")
    assert shown == ["heat " + drawing], shown
    titles = browser.value(
        f"[...document.querySelectorAll('svg.{drawing} g > title')]"
        ".map(e => e.textContent)")
    for cell in report["cells"]:
        layer = report["layers"][cell["layer"]]["name"]
        kind = report["kinds"][cell["kind"]]["name"]
        wanted = (f"{layer}, {kind}: {percent(cell['relative_rms'])}, "
                  f"{count(cell['tensors'])} tensor"
                  f"{'' if cell['tensors'] == 1 else 's'}")
        assert wanted in titles, f"no cell: {wanted}"
    sums = len(report["layers" if drawing == "wide" else "kinds"])
    assert len(titles) == len(report["cells"]) + sums, len(titles)


def check_order(browser, report):
    """The larger of two cells never has the lighter step of colour."""
    steps = browser.value(
        "[...document.querySelectorAll('svg.wide g')].map(e => ["
        "e.querySelector('title').textContent, "
        "+e.querySelector('rect').getAttribute('class')[1]])")
    by_title = dict(steps)
    found = sorted(
        (cell["relative_rms"], by_title[
            f"{report['layers'][cell['layer']]['name']}, "
            f"{report['kinds'][cell['kind']]['name']}: "
            f"{percent(cell['relative_rms'])}, {count(cell['tensors'])} tensor"
            f"{'' if cell['tensors'] == 1 else 's'}"])
        for cell in report["cells"])
    assert [step for _, step in found] == sorted(step for _, step in found)
    assert len({step for _, step in found}) > 1, "one colour for all"


def check_layout(browser, width):
    """Nothing is wider than the window, and no text is cut off."""
    inner = browser.value("innerWidth")
    assert inner == width, (inner, width)
    found = browser.value("document.documentElement.scrollWidth")
    assert found <= width, f"{found} pixels wide in a window of {width}"
    outside = browser.value(
        "[...document.querySelectorAll('main *, header *')].filter(e => {"
        "const r = e.getBoundingClientRect(); return r.width > 0 && "
        "!e.closest('thead') && (r.right > innerWidth + 1 || r.left < -1); })"
        ".map(e => e.outerHTML.slice(0, 120))")
    assert not outside, f"outside of {width} pixels: {outside[:3]}"


def luminance(colour):
    parts = [int(part) / 255 for part in
             colour[colour.index("(") + 1:-1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045
              else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(k * part for k, part in zip((0.2126, 0.7152, 0.0722), linear))


def check_contrast(browser, dark):
    """At least 4.5 to 1, as WCAG 2.2 wants of text (1.4.3)."""
    paper = luminance(browser.value(
        "getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == dark, "the wrong theme"
    for element in ("body", ".note", ".kicker", "a", "td", "thead th"):
        ink = luminance(browser.value(
            f"getComputedStyle(document.querySelector('{element}')).color"))
        ratio = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert ratio >= 4.5, f"{element}: contrast {ratio:.2f}, dark: {dark}"
    for cell in browser.value(
            "[...document.querySelectorAll('svg.wide g')].filter(e => "
            "e.querySelector('text')).map(e => ["
            "getComputedStyle(e.querySelector('rect')).fill, "
            "getComputedStyle(e.querySelector('text')).fill])"):
        low, high = sorted(map(luminance, cell))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"cell {cell}, {dark}"


def check_silence(browser, page):
    """One file is loaded, and nobody complains."""
    asked = [event["params"]["request"]["url"] for event in browser.events
             if event.get("method") == "Network.requestWillBeSent"]
    assert len(asked) == 1 and asked[0].endswith(page), asked
    said = [event for event in browser.events if event.get("method") in
            ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert not said, said
    assert browser.value("document.scripts.length") == 0


def check_print(browser, report):
    data = browser.pdf()
    assert data.startswith(b"%PDF-"), data[:20]
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.value(
        "getComputedStyle(document.querySelector('svg.wide')).display") != \
        "none"
    check_text(browser, report)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    page = sys.argv[2]
    xml.parse(page)  # well-formed, without any entity of HTML
    with Browser() as browser:
        for dark in (False, True):
            for width in WIDTHS:
                browser.open(page, width, dark)
                check_silence(browser, page)
                check_layout(browser, width)
                check_text(browser, report)
                check_heatmap(browser, report,
                              "wide" if width > 700 else "narrow")
                check_contrast(browser, dark)
        check_order(browser, report)
        browser.open(page, 1100)
        check_print(browser, report)


if __name__ == "__main__":
    main()
