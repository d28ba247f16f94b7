"""A file is complete or absent, whatever was at its path."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from retinanet.io.atomic import left_behind, replacing, write_text


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path):
    write_text(tmp_path / "new" / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("half")
        assert (tmp_path / "new" / "a.txt").read_text() == "old"
        assert left_behind(tmp_path / "new") == [temporary]
        1 / 0  # noqa: B018
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text() == "old"


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path):
    (tmp_path / "secret").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "secret").read_text() == "untouched"
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "new"


def test_a_device_and_an_open_pipe_are_written_directly():
    write_text(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()
    script = "import sys; from pathlib import Path; from retinanet.io.atomic import write_text\n"
    script += "write_text(Path('/dev/stdout'), 'through'); write_text(Path(f'/dev/fd/{sys.argv[1]}'), 'this one')"
    reader, writer = os.pipe()
    with os.fdopen(reader) as other:
        command = [sys.executable, "-c", script, str(writer)]
        done = subprocess.run(command, capture_output=True, text=True, pass_fds=[writer])
        os.close(writer)
        assert (done.stdout, done.stderr, other.read()) == ("through", "", "this one")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="/dev/shm is absent")
def test_a_file_in_the_memory_disk_is_a_file():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = Path(folder) / "a"
        write_text(file, "old")
        with replacing(file, keep=Path(folder) / "b") as temporary:
            temporary.write_text("new")
            assert file.read_text() == "old"
        assert file.read_text() == "new" and (Path(folder) / "b").read_text() == "old"


def test_a_pipe_whose_reader_may_never_come_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe or a device, expected a file") as error:
        write_text(tmp_path / "pipe", "text")
    assert error.value.filename == str(tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error:
        write_text(tmp_path / "file" / "below.txt", "text")
    assert error.value.filename == str(tmp_path / "file" / "below.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder, expected a file") as error:
        write_text(tmp_path / "folder", "text")
    assert error.value.filename == str(tmp_path / "folder")


def test_a_thousand_missing_folders_are_made(tmp_path: Path):
    file = tmp_path / "/".join(["a"] * 1200) / "b.txt"
    write_text(file, "text")
    assert file.read_text() == "text"
    for folder in file.parents:  # pytest would recurse, too
        if folder == tmp_path:
            break
        file.unlink(missing_ok=True)
        folder.rmdir()


def test_permissions_follow_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path):
    write_text(tmp_path / ("n" * 251 + ".txt"), "text")
    write_text(tmp_path / ("\u8d64" * 83 + ".txt"), "text")
