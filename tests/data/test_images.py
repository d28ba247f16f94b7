import errno
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from retinanet.data.images import format_and_frames, image_size, read_image
from retinanet.errors import DataError

GREY = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
TURNED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def save(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(path, exif=exif)
    return path


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(
    ("mode", "suffix", "expected", "tolerance"),
    [
        ("RGB", "png", (200, 40, 90), 0),
        ("RGB", "jpg", (200, 40, 90), 2),
        ("RGB", "bmp", (200, 40, 90), 0),
        ("RGB", "webp", (200, 40, 90), 4),
        ("RGBA", "png", (200, 40, 90), 0),
        ("P", "png", (204, 51, 102), 0),  # nearest of the web palette, in steps of 51
        ("CMYK", "jpg", (200, 40, 90), 3),
        ("CMYK", "tif", (200, 40, 90), 0),
        ("L", "jpg", (94, 94, 94), 1),  # 0.299 R + 0.587 G + 0.114 B = 93.5
        ("LA", "png", (94, 94, 94), 1),
        ("1", "png", (255, 255, 255), 0),
    ],
)
def test_every_pixel_format_becomes_rgb(tmp_path, mode, suffix, expected, tolerance):
    colour = (255, 255, 255) if mode == "1" else (200, 40, 90)
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (16, 8), colour).convert(mode, dither=Image.Dither.NONE).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype, image.flags.c_contiguous, image.flags.writeable) == (
        (8, 16, 3),
        np.uint8,
        True,
        True,
    )
    assert np.abs(image.astype(int) - expected).max() <= tolerance
    assert image_size(path) == (8, 16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("pixels", [[[0x1234, 0x00FF, 0xFFFF]], [[[0x1234, 0x00FF, 0xFFFF]]]], ids=["grey", "colour"])
def test_of_16_bits_the_high_byte_is_kept(tmp_path, suffix, pixels):
    array = np.array(pixels, np.uint16)
    path = tmp_path / f"image.{suffix}"
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    got = read_image(path)
    assert got.dtype == np.uint8
    assert (got == np.array(pixels).reshape(1, -1, 3 if array.ndim == 3 else 1) // 256).all()


def test_pixels_are_those_of_opencv(shared_data):
    for path in sorted((shared_data / "coco128" / "train2017").glob("*.jpg"))[:8]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert np.array_equal(read_image(path), image)
        assert image_size(path) == image.shape[:2]


@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.float32])
def test_pixels_of_32_bits_are_refused_since_nothing_says_how_many_are_used(tmp_path, kind):
    path = tmp_path / "image.tif"
    Image.fromarray(np.full((4, 6), 200, kind)).save(path)
    for read in (read_image, format_and_frames):
        with pytest.raises(DataError, match="expected 8 or 16 bits") as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: has ")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_exif_does_not_know_is_upright(tmp_path, orientation, suffix):
    path = save(tmp_path / f"image.{suffix}", orientation)
    assert image_size(path) == read_image(path).shape[:2] == (2, 3)
    assert image_size(path, (2, 3)) == read_image(path, (2, 3)).shape[:2] == (2, 3)


@pytest.mark.parametrize("place", ["PIL.ImageFile.ImageFile.load", "PIL.ImageOps.exif_transpose"])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_too_little_memory_and_too_few_open_files_are_no_faults_of_the_file(tmp_path, monkeypatch, place, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    path = save(tmp_path / "image.jpg", 6)
    monkeypatch.setattr(place, fail)
    with pytest.raises(type(error)):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image(tmp_path, orientation, suffix):
    path = save(tmp_path / f"image.{suffix}", orientation)
    expected = np.array(TURNED[orientation])
    assert np.array_equal(read_image(path)[..., 0], expected)
    assert np.array_equal(
        read_image(path, expected.shape)[..., 0], GREY if expected.shape == (2, 3) and suffix == "png" else expected
    )
    assert image_size(path) == expected.shape


def test_the_annotated_size_decides_about_turning(tmp_path):
    path = save(tmp_path / "image.png", 6)
    assert np.array_equal(read_image(path, (2, 3))[..., 0], GREY)
    assert np.array_equal(read_image(path, (3, 2))[..., 0], TURNED[6])
    with pytest.raises(DataError) as raised:
        read_image(path, (2, 4))
    assert str(raised.value) == f"{path}: is 3 x 2 pixels (width x height); its annotation says 4 x 2"


def test_a_broken_exif_block_is_overlooked(tmp_path):
    path = tmp_path / "image.png"
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n8\nno hexadecimal digits")
    Image.fromarray(GREY).save(path, pnginfo=text)
    assert read_image(path).shape == (2, 3, 3)
    assert image_size(path) == (2, 3)


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path}: no such image file"),
        (b"", "{path}: is empty"),
        (b"just\ntext", '{path}: not an image but text: "just text"'),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", '{path}: not an image but text: "%!PS-Adobe-3.0 EPSF-3.0"'),
        (b"\x00\x00\x01\x00 an icon", "{path}: not an image, or of an unknown format (12 bytes)"),
        (
            png_header(13_378, 13_377),
            "{path}: has 13378 x 13377 = 178,957,506 pixels; data.max_pixels is 178,956,970",
        ),
        (png_header(65_536, 32_769), "{path}: has more than 2,147,483,648 pixels, the most that can be read"),
        (b"P6 x 9 255 ", "{path}: cannot be read as an image: its content is damaged"),
    ],
    ids=["missing", "empty", "text", "PostScript", "icon", "bomb", "larger bomb", "no number"],
)
def test_what_is_no_image_is_named(tmp_path, read, content, message):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read(path)
    assert str(raised.value) == message.format(path=path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("list index out of range"), "its content is damaged"),
        (struct.error("unpack requires a buffer of 4 bytes"), "its content is damaged"),
        (ValueError(), "its content is damaged"),
        (OSError("Truncated\nFile Read"), "Truncated File Read"),
        (SyntaxError("broken PNG file"), "broken PNG file"),
    ],
)
def test_reasons_are_those_of_pillow(tmp_path, monkeypatch, error, reason):
    def fail(*arguments, **options):
        raise error

    path = tmp_path / "image.png"
    path.write_bytes(b"x")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError) as raised:
        image_size(path)
    assert str(raised.value) == f"{path}: cannot be read as an image: {reason}"


def test_what_only_looks_at_the_header_has_no_limit_of_its_own(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(png_header(13_378, 13_377))
    assert image_size(path, max_pixels=180_000_000) == (13_377, 13_378)
    assert format_and_frames(path) == (None, False)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_half_a_file_is_no_image(tmp_path, noise, suffix, part):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DataError) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_no_library_writes_to_the_terminal(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "sound.jpg")
    sound = (tmp_path / "sound.jpg").read_bytes()
    (tmp_path / "extraneous.jpg").write_bytes(sound[:-2] + b"\0\0\0\xff\xd9")  # libjpeg: Corrupt JPEG data
    Image.fromarray(noise).save(tmp_path / "profile.png", icc_profile=b"xx" * 100)  # libpng: iCCP: too short
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")  # Pillow: DecompressionBombWarning
    Image.fromarray(noise).save(tmp_path / "half.tif", compression="tiff_lzw")
    (tmp_path / "half.tif").write_bytes(
        (tmp_path / "half.tif").read_bytes()[:-3000]
    )  # Pillow: Tag data larger than file
    program = f"""
from pathlib import Path
from retinanet.data.images import image_size, read_image
from retinanet.errors import DataError
folder = Path({str(tmp_path)!r})
assert image_size(folder / "large.png") == (10_000, 10_000)
for name in ("sound.jpg", "extraneous.jpg", "profile.png"):
    assert read_image(folder / name).shape == (60, 80, 3)
try:
    read_image(folder / "half.tif")
except DataError:
    print("refused")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("refused\n", "")


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
