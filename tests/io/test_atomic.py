"""A file is complete or absent, whatever was at its path."""

import os
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


def test_a_device_and_a_pipe_are_written_directly(tmp_path: Path):
    write_text(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error:
        write_text(tmp_path / "file" / "below.txt", "text")
    assert error.value.filename == str(tmp_path / "file" / "below.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_text(tmp_path / "folder", "text")
    assert error.value.filename == str(tmp_path / "folder")


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
