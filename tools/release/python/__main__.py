"""Runs the program that this package brings: python -m hf_cache_sync."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import sysconfig


def program():
    """Finds the program where pip has put it."""
    name = "hf-cache-sync" + (sysconfig.get_config_var("EXE") or "")
    here = pathlib.Path(__file__).resolve().parent
    found = []
    try:
        # What was installed is on record, whatever the scheme was.
        for file in importlib.metadata.files("hf-cache-sync") or []:
            if file.name == name and file.parent.name in ("bin", "Scripts"):
                found.append(pathlib.Path(file.locate()))
    except importlib.metadata.PackageNotFoundError:
        pass
    found.append(pathlib.Path(sysconfig.get_path("scripts")) / name)
    # pip install --target moves files, and its record does not say so.
    found.append(here.parent / "bin" / name)
    for path in found:
        if path.is_file():
            return os.fspath(path)
    sys.exit("hf-cache-sync: the program is not at " + " nor at ".join(map(os.fspath, found)))


def main():
    """Becomes the program; on Windows, waits for it."""
    path = program()
    if os.name != "nt":
        os.execv(path, [path] + sys.argv[1:])
    try:
        sys.exit(subprocess.run([path] + sys.argv[1:], check=False).returncode)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
