"""The lock of a run's folder, which only one process at a time may write."""

import os
import socket
from pathlib import Path
from typing import ClassVar

from retinanet.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
MAX_HOLDER_CHARACTERS = 200


class FolderLock:
    """A lock that is held until `release` or until the process ends, even by a kill.

    It is a lock of the kernel, which forked processes do not inherit and which works across hosts on NFS; `held` keeps
    out other locks of the same process. On a file system without locks, only those are kept out.

    Raises: CheckpointError that names the process which holds the lock.
    """

    held: ClassVar[set[Path]] = set()  # folders

    def __init__(self, folder: Path):
        self.path, self.folder = folder / LOCK_NAME, folder.resolve()
        if self.folder in self.held:
            raise CheckpointError(
                f"{folder}: is in use by another run of this process; end it, or choose another folder"
            )
        while True:
            self.file = self.path.open("a+", encoding="utf-8")
            try:
                if fcntl is not None:
                    fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                self.file.seek(0)
                holder = self.file.read(MAX_HOLDER_CHARACTERS).strip() or "another process"
                self.file.close()
                raise CheckpointError(
                    f"{folder}: is in use by {holder}; wait until it ends, or choose another folder with -o"
                ) from None
            except OSError:  # a file system without locks
                pass
            try:
                if os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
                    break
            except FileNotFoundError:
                pass
            self.file.close()  # its holder released and removed it in the meantime
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()
        self.held.add(self.folder)

    def release(self) -> None:
        """Remove the lock file and unlock the folder."""
        self.held.discard(self.folder)
        self.path.unlink(missing_ok=True)
        self.file.close()
