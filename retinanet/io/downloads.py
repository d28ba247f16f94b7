"""Weights from the web: over https alone, kept in torch's cache, never used with another hash than their name says."""

import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import torch


def cached(url: str) -> Path:
    """Where the file of `url` lies once it is fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlsplit(url).path)


def fetch(url: str) -> Path:
    """The file of `url`, whose name ends in the first digits of its SHA-256, from the cache or else from the web.

    A download takes its place once it is whole and its hash is compared.
    Raises: ValueError if the URL is not of https or the hash is another; OSError, and what the network raises.
    """
    file = cached(url)
    expected = file.stem.rpartition("-")[2]
    if urlsplit(url).scheme != "https":
        raise ValueError(f"{url} is not of https")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), expected, progress=sys.stderr.isatty())
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(expected):
        raise ValueError(f"{file.name} has the SHA-256 {found[: len(expected)]}..., not the one in its name; remove it")
    return file
