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
            elif re.fullmatch(r"[a-z0-9_]+(\.[a-z]+)?", cells[0]) and \
                    set(cells[1:]) <= {"right", "cannot"}:
                rows[cells[0]] = cells[1:]
    return versions, rows


# A model_type may have kinds of models that loaders treat in different ways;
# config.json tells the card's reader which of them it is.
VARIANTS = {"": "", "moe": "of a model with experts, ",
            "saved": "of one that transformers has saved, ",
            "sound": "of a model with sound, ",
            "dense": "of a model without experts, "}


def kind_of(name, variant, loader, rows):
    """Of which models a reason is: the plain row's is of those with experts
    where the loader takes one without."""
    dense = rows.get(name + ".dense")
    if not variant and dense and dense[LOADERS.index(loader)] == "right":
        return VARIANTS["moe"]
    return VARIANTS[variant]


def reasons(name, rows):
    """Why a loader cannot, by loader; of any kind of this model_type."""
    found = {}
    for row, verdicts in rows.items():
        base, _, variant = row.partition(".")
        if base != name:
            continue
        defects = FAMILIES[row].defects
        for loader, verdict in zip(LOADERS, verdicts):
            assert (verdict == "cannot") == (loader in defects), row
            if verdict == "cannot" and loader not in found:
                found[loader] = (kind_of(name, variant, loader, rows)
                                 + defects[loader][1])
    return found


def main():
    versions, rows = table(os.path.join(HERE, "../../docs/loaders.md"))
    assert tuple(versions) == LOADERS, versions
    assert set(rows) == set(FAMILIES), set(rows) ^ set(FAMILIES)
    print("# What loaders make of which model_type, for the model cards of")
    print("# `report`. Written by tests/interop/card_data.py; do not edit.")
    for loader in LOADERS:
        print("version", loader, versions[loader])
    for name in rows:
        if "." in name:
            continue
        why = reasons(name, rows)
        print("model", name, FAMILIES[name].auto,
              *("cannot" if loader in why else "right" for loader in LOADERS))
        for loader in LOADERS:
            if loader in why:
                print("why", name, loader, why[loader])


if __name__ == "__main__":
    main()
