#!/usr/bin/env python3
"""Prints pages/loaders.txt, what the model cards of `report` say of loaders,
from docs/loaders.md, which `make interop` writes, and from the families that
it tries. Needs neither loader.

    tests/interop/card_data.py > pages/loaders.txt
"""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from families import FAMILIES  # noqa: E402

LOADERS = ("transformers", "vllm", "sglang")


def table(path):
    """The versions, and per model_type what each loader made of it."""
    versions, rows = {}, {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().split("|")[1:-1]]
            if len(cells) != 4:
                continue
            if cells[0] == "model_type" and not versions:
                versions = dict(cell.split() for cell in cells[1:])
            elif re.fullmatch("[a-z0-9_]+", cells[0]) and \
                    set(cells[1:]) <= {"right", "cannot"}:
                rows[cells[0]] = cells[1:]
    return versions, rows


def main():
    versions, rows = table(os.path.join(HERE, "../../docs/loaders.md"))
    assert tuple(versions) == LOADERS, versions
    assert set(rows) == set(FAMILIES), set(rows) ^ set(FAMILIES)
    print("# What loaders make of which model_type, for the model cards of")
    print("# `report`. Written by tests/interop/card_data.py; do not edit.")
    for loader in LOADERS:
        print("version", loader, versions[loader])
    for name, verdicts in rows.items():
        print("model", name, FAMILIES[name].auto, *verdicts)
        for loader, verdict in zip(LOADERS, verdicts):
            assert (verdict == "cannot") == (loader in FAMILIES[name].defects)
            if verdict == "cannot":
                print("why", name, loader, FAMILIES[name].defects[loader][1])


if __name__ == "__main__":
    main()
