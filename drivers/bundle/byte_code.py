"""Runs in the build root with the bundle's own Python: byte code for every module below a directory."""

from __future__ import annotations

import os
import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

_BATCH = 200


def compile_file(path: str) -> str:
    """The module has byte code that needs no look at its source; or why it is no valid Python."""
    try:
        py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (py_compile.PyCompileError, SyntaxError, ValueError) as error:
        return f"{path}: {type(error).__name__}"
    return ""


def modules(directory: Path) -> list[str]:
    """Every module below, tests apart: they are not run on hosts."""
    found = (str(path) for path in directory.rglob("*.py") if path.is_file())
    return sorted(path for path in found if "/tests/" not in path and "/test/" not in path)


def main(directory: Path) -> None:
    """Every valid module has byte code. Raises SystemExit when more than one in a hundred is no valid Python."""
    paths = modules(directory)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        invalid = [told for told in pool.map(compile_file, paths, chunksize=_BATCH) if told]
    print(f"{len(paths)} modules", *invalid, sep="\n")
    if len(invalid) * 100 > len(paths):
        sys.exit(f"{len(invalid)} of {len(paths)} modules are no valid Python")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
