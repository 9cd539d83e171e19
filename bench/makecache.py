"""Writes a Hub cache of random files: makecache.py <hub folder> <repo> <number of files> <bytes of each>."""

import hashlib
import json
import os
import sys

CHUNK = 8 << 20


def main(hub: str, repo: str, count: int, size: int) -> None:
    base = os.path.join(hub, "models--" + repo.replace("/", "--"))
    commit = hashlib.sha1(repo.encode()).hexdigest()
    for folder in ("blobs", "refs", "trees", f"snapshots/{commit}"):
        os.makedirs(os.path.join(base, folder), exist_ok=True)
    tree = {}
    for number in range(count):
        digest, unnamed = hashlib.sha256(), os.path.join(base, "blobs", ".unnamed")
        with open(unnamed, "wb") as out:
            left = size
            while left:
                data = os.urandom(min(left, CHUNK))
                digest.update(data)
                out.write(data)
                left -= len(data)
        name, path = digest.hexdigest(), f"file-{number:05d}.bin"
        os.rename(unnamed, os.path.join(base, "blobs", name))
        os.symlink(f"../../blobs/{name}", os.path.join(base, "snapshots", commit, path))
        tree[path] = {"blob_id": "0" * 40, "lfs_sha256": name, "lfs_size": size, "size": size}
    with open(os.path.join(base, "refs", "main"), "w") as out:
        out.write(commit)
    with open(os.path.join(base, "trees", commit + ".json"), "w") as out:
        json.dump({"files": tree, "format_version": 1}, out, indent=1, sort_keys=True)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
