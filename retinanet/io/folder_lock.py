"""One process at a time writes a run's folder."""

import os
import socket
from pathlib import Path

from retinanet.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class FolderLock:
    """Held until `release`, or until the process ends, however it ends. Raises: CheckpointError that names the holder.

    A lock of the kernel's, which forked processes do not share, and which holds across hosts on NFS. Where a file
    system has none, nothing is held.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        while True:
            self.file = self.path.open("a+", encoding="utf-8")
            try:
                if fcntl is not None:
                    fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                self.file.seek(0)
                holder = self.file.read(200).strip() or "another process"
                self.file.close()
                raise CheckpointError(
                    f"{folder}: is being written by {holder}; wait until it is done, or name another folder with -o"
                ) from None
            except OSError:
                pass
            try:
                if os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
                    break
            except FileNotFoundError:
                pass
            self.file.close()  # released, and so removed, by another in the meantime
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        self.file.close()
