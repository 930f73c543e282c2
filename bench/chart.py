"""The chart of a benchmark's document, as SVG: bars of source gigabytes a
second, above on the disk, below in memory by instruction set and number of
threads, with the floor as dashed lines. Inline text, no script; colours
follow the reader's preference for light or dark."""

import statistics
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 760, 208, 64
BAR, GAP, GROUP = 18, 4, 14
# The kernel's own threads, which write pages back, take some too.
BUSY_SHARE = 0.15

STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-size: 16px; font-weight: 600; }
    .head { font-weight: 600; }
    .note { font-size: 12px; fill: #59636e; }
    .paper { fill: #ffffff; }
    .axis { stroke: #8c959f; stroke-width: 1; }
    .grid { stroke: #d8dee4; stroke-width: 1; }
    .floor { stroke: #9a3412; stroke-width: 2; stroke-dasharray: 6 4; }
    .floor-text { font-size: 12px; fill: #9a3412; }
    .one { fill: #7fb2e5; } .more { fill: #1f5fa8; } .other { fill: #a3abb3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .note { fill: #9aa4af; }
      .paper { fill: #0d1117; }
      .axis { stroke: #6e7681; }
      .grid { stroke: #262c34; }
      .floor { stroke: #f0a868; }
      .floor-text { fill: #f0a868; }
      .one { fill: #2f6db0; } .more { fill: #79b8ff; } .other { fill: #59636e; }
    }
"""


class Canvas:
    def __init__(self):
        self.parts = []
        self.y = 0

    def text(self, x, y, words, kind="", anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" '
                          f'text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, x1, y1, x2, y2, kind):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
                          f'y2="{y2:.1f}" class="{kind}"/>')

    def box(self, x, y, width, height, kind):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" '
                          f'width="{width:.1f}" height="{height:.1f}" '
                          f'rx="2" class="{kind}"/>')

    def svg(self, title):
        height = self.y + 16
        return (f'<svg xmlns="http://www.w3.org/2000/svg" '
                f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
                f'height="{height}" role="img">\n'
                f'<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
                f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def tick_step(most):
    """1, 2 or 5 times a power of ten, so that there are 4 to 8 ticks."""
    step = 10.0 ** -3
    while True:
        for factor in (1, 2, 5):
            if most / (step * factor) <= 8:
                return step * factor
        step *= 10


def panel(canvas, head, note, groups, floors, floor_groups):
    """groups: lists of (label, rate, class); floors: (label, rate), lines
    across the first so many groups. The highest floor's label is on top, so
    that no line crosses another's label."""
    floors = sorted(floors, key=lambda floor: -floor[1])
    most = max([rate for group in groups for _, rate, _ in group]
               + [rate for _, rate in floors])
    step = tick_step(most)
    scale = (WIDTH - LEFT - RIGHT) / (most * 1.04)
    canvas.text(16, canvas.y + 16, head, "head")
    canvas.text(16, canvas.y + 34, note, "note")
    top = canvas.y + 48 + 16 * len(floors)
    height = sum(len(group) * (BAR + GAP) + GROUP for group in groups)
    for i in range(int(most * 1.04 / step) + 1):
        x = LEFT + i * step * scale
        canvas.line(x, top, x, top + height, "grid" if i else "axis")
        canvas.text(x, top + height + 16, f"{i * step:g}", "note", "middle")
    canvas.text(WIDTH - 16, top + height + 16, "GB/s", "note", "end")
    floor_height = sum(len(group) * (BAR + GAP) + GROUP
                       for group in groups[:floor_groups])
    y = top + GROUP / 2
    for group in groups:
        for label, rate, kind in group:
            canvas.text(LEFT - 8, y + 14, label, "", "end")
            canvas.box(LEFT, y, max(rate * scale, 1), BAR, kind)
            canvas.text(LEFT + rate * scale + 6, y + 14, f"{rate:.2f}")
            y += BAR + GAP
        y += GROUP
    for i, (label, rate) in enumerate(floors):
        x = LEFT + rate * scale
        canvas.line(x, top - 16 * (len(floors) - i) + 4, x,
                    top + floor_height, "floor")
        canvas.text(x - 6, top - 16 * (len(floors) - i) + 12,
                    f"{label} {rate:.2f}", "floor-text", "end")
    canvas.y = top + height + 40


def rate(document, what, size):
    walls = [s["wall_s"] for s in document["samples"] if s["what"] == what]
    return size / statistics.median(walls) / 1e9 if walls else None


def disk_panel(canvas, document):
    size = document["source"]["bytes"]
    groups = []
    for names in [[("cp -r, source cached", "cp", "other"),
                   ("quantize", "quantize", "more")],
                  [("cp -r, source cold", "cold cp", "other"),
                   ("quantize", "cold quantize", "more")],
                  [("reading both", "read", "other"),
                   ("verify", "verify", "more")]]:
        groups.append([(label, rate(document, what, size), kind)
                       for label, what, kind in names])
    panel(canvas, f"On {document['machine']['file_system']}, fsync included",
          f"{size / 1e9:.2f} GB of source, {document['machine']['cpus']} "
          "threads; dashed: narrowing copy, source cached",
          groups, [("floor", rate(document, "floor", size))], 1)


def memory_panel(canvas, document):
    size = document["memory_source_bytes"]
    counts = sorted({int(s["what"].split()[2]) for s in document["samples"]
                     if s["what"].startswith("memory floor")})
    groups = []
    for isa in document["machine"]["isa"]:
        groups.append([
            (f"{isa}, {n} thread{'s' if n > 1 else ''}",
             rate(document, f"memory {isa} {n}", size),
             "one" if n == 1 else "more") for n in counts])
    floors = [(f"floor, {n} thread{'s' if n > 1 else ''}",
               rate(document, f"memory floor {n}", size)) for n in counts]
    panel(canvas, "In memory (tmpfs), as many CPUs as threads",
          f"{size / 1e9:.2f} GB of source, by instruction set; dashed: "
          "narrowing copy", groups, floors, len(groups))


def draw(document):
    canvas = Canvas()
    where = document["machine"]
    title = "fp8cast quantize: gigabytes of BF16 source a second"
    canvas.text(16, 28, title, "title")
    canvas.text(16, 48, f"{where['cpu']}, {where['cpus']} CPUs, "
                f"{where['system']}; {document['date']}, medians of "
                f"{document['rounds']} rounds", "note")
    canvas.y = 68
    share = where["other_share"]
    if share > BUSY_SHARE:
        canvas.text(16, 66, f"Others took {100 * share:.0f} % of the CPUs: "
                    "these figures say little.", "floor-text")
        canvas.y = 86
    disk_panel(canvas, document)
    if document["memory_source_bytes"]:
        memory_panel(canvas, document)
    return canvas.svg(title)
