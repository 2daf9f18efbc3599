#!/usr/bin/env python3
"""Makes a copy of the sources that has all breaks of breaks.toml, or lists them.

apply.py list LABORATORY    names those that the laboratory (logs, transactions) is to notice
apply.py copy DIRECTORY     writes the copy; a program built from it makes the break that the variable MAPWAL_BREAK names

Needs Python 3.11 and nothing else."""
import shutil, sys, tomllib
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COPIED = ["Cargo.toml", "Cargo.lock", "README.md", "src", "tests", "examples", "benches", "ci", "crates"]


def choice(old, alternatives):
    """`old`, or one of the alternatives if its break is made: statements stay statements, an expression an expression."""
    chain = "".join(f"if crate::sabotage::is({number}) {{\n{new}\n}} else " for number, new in alternatives)
    chosen = f"{chain}{{\n{old}\n}}"
    return chosen if old.endswith((";", "}")) else f"({chosen})"


def broken(path, text, edits):
    """The text of a file with all its edits, each a choice."""
    places = []
    for old, alternatives in edits.items():
        if text.count(old) != 1:
            sys.exit(f"{path}: occurs {text.count(old)} times instead of once:\n{old}")
        places.append((text.index(old), old, alternatives))
    parts, end = [], 0
    for start, old, alternatives in sorted(places):
        if start < end:
            sys.exit(f"{path}: overlaps with another edit:\n{old}")
        parts += [text[end:start], choice(old, alternatives)]
        end = start + len(old)
    return "".join(parts) + text[end:]


def copy(breaks, target):
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for source in (ROOT / name for name in COPIED):
        if source.is_dir():
            shutil.copytree(source, target / source.name, ignore=shutil.ignore_patterns("target"))
        elif source.exists():
            shutil.copy2(source, target)
    edits = defaultdict(lambda: defaultdict(list))
    for number, planted in enumerate(breaks.values()):
        for edit in planted["edits"]:
            edits[edit["file"]][edit["old"]].append((number, edit["new"]))
    for path, of_file in edits.items():
        file = target / path
        file.write_text(broken(path, file.read_text(), of_file))
    names = ", ".join(f'"{name}"' for name in breaks)
    module = (HERE / "sabotage.rs").read_text()
    (target / "src/sabotage.rs").write_text(f"{module}\nconst NAMES: [&str; {len(breaks)}] = [{names}];\n")
    with open(target / "src/lib.rs", "a") as library:
        library.write("\nmod sabotage;\n")


def main():
    breaks = tomllib.loads((HERE / "breaks.toml").read_text())
    match sys.argv[1:]:
        case ["list", laboratory]:
            named = [name for name, planted in breaks.items() if planted.get("laboratory", "logs") == laboratory]
            print("\n".join(named))
        case ["copy", directory]:
            copy(breaks, Path(directory))
        case _:
            sys.exit(__doc__)


main()
