"""Runs a real Python huggingface_hub, any version from 0.36 on, for the oracle tests.

A JSON list of steps comes on standard input, one JSON list of outcomes goes to
standard output: {"ok": value} or {"error": exception class, "message": text},
in the same order. One process carries out all of them, because starting Python
takes longer than the steps do.

A step is an object with "do" and that function's arguments; the functions
below say which. "type" is "model" (the default), "dataset", "space" or
"kernel". The cache, the Hub's address and offline mode come from the
environment (HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE), as for any user.
"""

import hashlib
import json
import os
import sys
import traceback
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def file_digests(root):
    """Every file below root, by its path: the SHA-256 of what a reader gets."""
    files = (path for path in sorted(Path(root).rglob("*")) if not path.is_dir())
    return {path.relative_to(root).as_posix(): sha256(path) for path in files}


def version():
    return huggingface_hub.__version__


def download(repo, type="model", revision=None, allow=None):
    """snapshot_download; gives the name of the snapshot folder, which is the commit."""
    # Without symlinks the client moves a blob to its path. Where two paths have the same bytes, another of its threads may be about to copy that blob, and fails.
    workers = 1 if os.environ.get("HF_HUB_DISABLE_SYMLINKS") else 8
    return os.path.basename(snapshot_download(repo, repo_type=type, revision=revision, allow_patterns=allow, max_workers=workers))


def file(repo, path, type="model", revision=None, local=False):
    """hf_hub_download of one file; gives the SHA-256 of what lies at the returned path."""
    return sha256(hf_hub_download(repo, path, repo_type=type, revision=revision, local_files_only=local))


def offline(repo, type="model", revision=None, allow=None, flag=True):
    """snapshot_download from the cache alone, by local_files_only or, with flag false, by HF_HUB_OFFLINE=1."""
    if not flag and not constants.HF_HUB_OFFLINE:
        raise AssertionError("the process was not started with HF_HUB_OFFLINE=1")
    root = snapshot_download(repo, repo_type=type, revision=revision, allow_patterns=allow, local_files_only=flag)
    return {"commit": os.path.basename(root), "files": file_digests(root)}


def lookup(repo, path, type="model", revision=None):
    """try_to_load_from_cache: "file", "no-exist" (known to be missing) or "unknown"."""
    found = huggingface_hub.try_to_load_from_cache(repo, path, repo_type=type, revision=revision)
    if found is None:
        return "unknown"
    return "file" if isinstance(found, str) else "no-exist"


def scan():
    """scan_cache_dir without what depends on the machine or the clock."""
    info = scan_cache_dir()
    repos = {}
    for repo in info.repos:
        revisions = {}
        for rev in repo.revisions:
            files = {
                f.file_path.relative_to(rev.snapshot_path).as_posix(): {
                    "size": f.size_on_disk,
                    "blob": f.blob_path.name,
                }
                for f in rev.files
            }
            revisions[rev.commit_hash] = {"size": rev.size_on_disk, "refs": sorted(rev.refs), "files": files}
        repos[f"{repo.repo_type}s/{repo.repo_id}"] = {
            "size": repo.size_on_disk,
            "files": repo.nb_files,
            "revisions": revisions,
        }
    return {
        "size": info.size_on_disk,
        "repos": repos,
        "warnings": [str(w) for w in info.warnings],
        "incomplete": len(getattr(info, "incomplete_files", [])),
    }


def verify(repo, type="model", revision=None):
    """What `hf cache verify` does (1.1 and later): compares the cache with the Hub's listing."""
    found = huggingface_hub.HfApi().verify_repo_checksums(repo, repo_type=type, revision=revision)
    return {
        "checked": found.checked_count,
        "mismatches": [m["path"] for m in found.mismatches],
        "missing": sorted(found.missing_paths),
        "extra": sorted(found.extra_paths),
    }


def tree(repo, type="model", revision=None):
    """The cached listing of the whole commit (1.29 and later), path to size, or None without one."""
    entries = huggingface_hub.get_cached_repo_tree(repo, repo_type=type, revision=revision)
    return {e.path: {"size": e.size, "blob_id": e.blob_id, "xet_hash": e.xet_hash} for e in entries}


def share():
    """Turns the cache into what Xet downloads of 2.x leave: payloads in the shared blob store.

    The store is written by huggingface_hub's own functions, in the order of its download; only the transfer before
    them was plain HTTP. A second repository with the same content is linked to the first one's payload.
    """
    from huggingface_hub.utils import _shared_blobs

    cache = Path(constants.HF_HUB_CACHE)
    shared = []
    for listing in sorted(cache.glob("*--*/trees/*.json")):
        for entry in json.loads(listing.read_text())["files"].values():
            if entry.get("xet_hash") is None or entry.get("lfs_sha256") is None:
                continue
            blob = listing.parent.parent / "blobs" / entry["lfs_sha256"]
            if blob.is_symlink() or not blob.is_file():
                continue
            size = {"cache_dir": cache, "expected_size": entry["lfs_size"]}
            link = {"blob_path": str(blob), "xet_hash": entry["xet_hash"], **size}
            if not (_shared_blobs.try_link_from_shared_store(**link) or _shared_blobs.publish_blob_to_shared_store(**link)):
                raise AssertionError(f"{blob} was not taken into the shared store")
            shared.append(blob.relative_to(cache).as_posix())
    return shared


def tensors(repo, path, revision=None):
    """Reads a safetensors file of the cached snapshot: the tensors' names, and the sum of the first one."""
    import numpy
    from safetensors import safe_open

    got = hf_hub_download(repo, path, revision=revision, local_files_only=True)
    with safe_open(got, framework="numpy") as f:
        names = sorted(f.keys())
        first = f.get_tensor(names[0])
    return {"names": names, "first": {"shape": list(first.shape), "finite": bool(numpy.isfinite(first).all())}}


def encode(repo, path, text, revision=None):
    """Reads a tokenizer of the cached snapshot and encodes text."""
    from tokenizers import Tokenizer

    got = hf_hub_download(repo, path, revision=revision, local_files_only=True)
    encoded = Tokenizer.from_file(got).encode(text)
    return {"tokens": encoded.tokens, "ids": encoded.ids}


STEPS = [version, download, file, offline, lookup, scan, verify, tree, share, tensors, encode]


def main():
    by_name = {step.__name__: step for step in STEPS}
    outcomes = []
    for step in json.load(sys.stdin):
        name = step.pop("do")
        try:
            outcomes.append({"ok": by_name[name](**step)})
        except Exception as e:  # The class of the exception is the outcome.
            traceback.print_exc(file=sys.stderr)
            outcomes.append({"error": type(e).__name__, "message": str(e)})
    # Two caches that hold the same give the same text.
    sys.stdout.write(json.dumps(outcomes).replace(os.environ["HF_HOME"], "$HF_HOME"))


if __name__ == "__main__":
    main()
