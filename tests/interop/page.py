"""Writes docs/loaders.md from what was seen; see loaders.md.in."""

import os

from divided import ENGINES
from families import FAMILIES
from programs import HERE, LOADERS

# What a user would see without this test.
LOUD = ("builds", "keys")


def outcome(faults):
    """One cell: what a user would see, and what only this test sees."""
    if not faults:
        return "fine"
    if any(check in faults for check in LOUD):
        return "raises" if "builds" in faults else "tells of keys"
    if set(faults) == {"set"}:
        return "converts (GPU)"
    if set(faults) == {"consumed"}:
        return "leaves it, silently"
    if "cast" in faults:
        return "**casts silently**"
    return f"**silent** ({', '.join(sorted(faults))})"


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths]] + rows[1:]
    return ["| " + " | ".join(cell.ljust(width) for cell, width
                              in zip(row, widths)) + " |" for row in rows]


def family_lines(family, jobs, results):
    of = [(i, job) for i, job in enumerate(jobs) if job["family"] == family]
    defects = FAMILIES[family].defects
    lines = [f"### {family}", ""]
    for loader, (_, why) in defects.items():
        lines += [f"{loader} cannot: {why}.", ""]
    rows = [["", *LOADERS]]
    for i, job in of:
        layout = job["layout"]
        name = {"good": f"as fp8cast writes it ({job['variant']} source"
                + (f", --layout {layout})" if layout != "card" else ")"),
                "probe": f"not listed: `{job['why']}`"}.get(
                    job["kind"], job["why"])
        rows.append([name] + [
            "-" if loader in defects
            else outcome(results[loader][i]).replace("fine", "right", 1)
            if job["kind"] == "good" else outcome(results[loader][i])
            for loader in LOADERS])
    return lines + table(rows) + [""]


def tried(job, faults):
    """One size at which an engine does not load, and how."""
    loud = "builds" in faults or "reference" in faults
    return f"{job['size']}: {'raises' if loud else '**wrong numbers**'}"


def engine_cells(parts, found):
    """Sizes that load, those that do with experts spread, those that do not."""
    of = [(job, faults) for job, faults in zip(parts, found)
          if job["kind"] == "good" and faults is not None]
    cells = [[str(job["size"]) for job, faults in of
              if not faults and job["spread"] == spread]
             for spread in (False, True)]
    cells.append([tried(job, faults) for job, faults in of if faults])
    return [", ".join(cell) or "-" for cell in cells]


def divided_rows(parts, results):
    rows = [["model_type", "with the ratios of",
             *(f"{engine} {words}" for engine in ENGINES for words in
               ("loads", "loads, experts spread", "does not"))]]
    for key in dict.fromkeys((job["family"], job["layout"]) for job in parts):
        of = [i for i, job in enumerate(parts)
              if (job["family"], job["layout"]) == key]
        cells = [engine_cells([parts[i] for i in of],
                              [results[engine][i] for i in of])
                 for engine in ENGINES]
        model_type, _, model = key[0].partition("@")
        if key[1] != "card":
            model += f", --layout {key[1]}"
        rows.append([model_type, model, *sum(cells, [])])
    return rows


def write(path, jobs, results, parts, parts_results, versions):
    with open(os.path.join(HERE, "loaders.md.in"), encoding="utf-8") as file:
        text = file.read()
    names = list(dict.fromkeys(job["family"] for job in jobs))
    summary = [["model_type", *(f"{one} {versions[one]}"
                                for one in LOADERS)]]
    details = []
    for family in names:
        row = [family]
        for loader in LOADERS:
            good = [not results[loader][i] for i, job in enumerate(jobs)
                    if job["family"] == family and job["kind"] == "good"]
            row.append("cannot" if loader in FAMILIES[family].defects
                       else "right" if all(good) else "**wrong**")
        summary.append(row)
        details += family_lines(family, jobs, results)
    text = text.replace("@SUMMARY@", "\n".join(table(summary)))
    text = text.replace("@DIVIDED@", "\n".join(table(
        divided_rows(parts, parts_results))))
    text = text.replace("@DETAILS@", "\n".join(details).rstrip())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
