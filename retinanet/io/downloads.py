"""Downloads of weights: only over https, into torch's cache, and only with the hash that is in their name."""

import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import torch

from retinanet.errors import CheckpointError
from retinanet.io.size_limits import check_size

MAX_DOWNLOADED_BYTES = 2**32  # ResNeXt-101 64x4d: 0.3 GB


def cached(url: str) -> Path:
    """The path in torch's cache for the file of `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlsplit(url).path)


def fetch(url: str) -> Path:
    """The file of `url`, from the cache or else from the web. Its name ends in the first digits of its SHA-256.

    A download reaches the cache only when it is complete and its hash is right.
    Raises: ValueError for another scheme than https or another hash; CheckpointError for a device or a pipe in the
        cache; OSError, and any exception of the network.
    """
    file = cached(url)
    expected = file.stem.rpartition("-")[2]
    if urlsplit(url).scheme != "https":
        raise ValueError(f"{url} does not begin with https")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), expected, progress=sys.stderr.isatty())
    check_size(file, MAX_DOWNLOADED_BYTES, CheckpointError)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not digest.startswith(expected):
        raise ValueError(f"{file.name} has the SHA-256 {digest[: len(expected)]}..., unlike its name; remove it")
    return file
