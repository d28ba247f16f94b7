"""Reads image files as RGB pixels.

With Pillow, since OpenCV's libjpeg and libpng always write to stderr; pixels are equal, and times similar (2.5 and 2.2
ms per COCO image).
"""

import ctypes
import functools
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from retinanet.config.schema import MAX_PIXELS, DataConfig
from retinanet.errors import DataError, is_out_of_files
from retinanet.messages import one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FORMATS = {  # of files that are opened, with their suffixes; other formats may start programs: EPS starts Ghostscript
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm"),
}
OF_SUFFIX = {suffix: kind for kind, suffixes in FORMATS.items() for suffix in suffixes}
BAND_PIXELS = 2**20
TURNED, SIDEWAYS = range(2, 9), range(5, 9)  # EXIF orientations; any other number stands for upright
TEXT_START_BYTES = 60  # of a text file, quoted in the message

Size = tuple[int, int]  # height and width


def read_image(
    path: Path | str, annotated_size: Size | None = None, max_pixels: int = DataConfig.max_pixels
) -> np.ndarray:
    """Pixels of an image file, (H, W, 3) uint8 RGB; the high byte of 16 bits, the first of several frames.

    annotated_size: (height, width) in the annotations; EXIF orientation is applied unless the stored size is equal.
    max_pixels: limit for the size in the header, checked before decoding.
    Raises: DataError if the file is incomplete, too large, of other than 8 or 16 bits, or not of the annotated size in
    either orientation; MemoryError.
    """
    with _opened(path, max_pixels) as image:
        _check_depth(path, image)
        stored = image.height, image.width
        image.load()
        if annotated_size != stored:
            if _orientation(image) in TURNED:
                ImageOps.exif_transpose(image, in_place=True)
            _check_size(path, stored, (image.height, image.width), annotated_size)
        return _pixels(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """The result of `read_image` for an image that Pillow has opened or made, which stays as it is.

    Raises: DataError if its pixels cannot be read, or are of other than 8 or 16 bits; MemoryError.
    """
    name = getattr(image, "filename", "") or "image"
    _configure_pillow()
    _check_depth(name, image)
    try:
        return _pixels(ImageOps.exif_transpose(image) if _orientation(image) in TURNED else image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow reads a file only now, and a damaged one can raise anything
        raise _unreadable(name, error) from error


def image_size(path: Path | str, annotated_size: Size | None = None, max_pixels: int = DataConfig.max_pixels) -> Size:
    """(height, width) of the result of `read_image`, from the file's header alone. Raises: as `read_image`."""
    with _opened(path, max_pixels) as image:
        stored = image.height, image.width
        if annotated_size == stored:
            return stored
        # for TIFF, Pillow's size already includes the orientation
        turned = image.format != "TIFF" and _orientation(image) in SIDEWAYS
        size = stored[::-1] if turned else stored
        _check_size(path, stored, size, annotated_size)
        return size


def format_and_frames(path: Path | str) -> tuple[str | None, bool]:
    """The format of an image file, such as "PNG", or None if the suffix is right; whether it has several frames.

    Raises: DataError if the header cannot be read, or announces pixels that cannot be read.
    """
    with _opened(path) as image:
        _check_depth(path, image)
        camera = image.format == "MPO"  # several JPEGs in one file, from some cameras
        kind = "JPEG" if camera else image.format
        named = OF_SUFFIX.get(Path(path).suffix.lower(), kind)
        return kind if kind != named else None, not camera and getattr(image, "is_animated", False)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded image, converted in bands to save memory."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image if rows >= image.height else image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.mode.startswith("I"):  # Pillow's convert() would clip 16-bit values to 255
            pixels[top : top + rows] = (np.asarray(band).clip(0, 65535) >> 8)[:, :, None]
        else:
            pixels[top : top + rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def _check_depth(path: Path | str, image: Image.Image) -> None:
    if image.mode == "F":
        raise DataError(f"{path}: has floating-point pixels; expected 8 or 16 bits", "unreadable-image")
    # nothing says which of 32 bits are used; OpenCV and torchvision do not read them either
    if image.format == "TIFF" and image.mode == "I" and 32 in image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, ()):  # type: ignore[attr-defined]
        raise DataError(f"{path}: has pixels of 32 bits; expected 8 or 16 bits", "unreadable-image")


def _orientation(image: Image.Image) -> object:
    """EXIF's orientation; 1, upright, where there is none or the block is broken."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # a broken EXIF block says nothing about orientation
        return 1


def _check_size(path: Path | str, stored: Size, upright: Size, annotated: Size | None) -> None:
    if annotated is not None and annotated != upright:
        pixels = f"{stored[1]} x {stored[0]} pixels (width x height)"
        raise DataError(f"{path}: is {pixels}; its annotation says {annotated[1]} x {annotated[0]}", "wrong-size")


@functools.cache
def _configure_pillow() -> None:
    """Process-wide settings of Pillow and libtiff: a higher limit of pixels, no warnings about harmless faults."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow rejects more than twice as many
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(OSError, AttributeError):  # Pillow may be built without libtiff
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


@contextmanager
def _opened(path: Path | str, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image after reading its header. Raises: DataError in place of any exception in the block.

    Too little memory and too many open files are no faults of the file, so these errors stay as they are.
    """
    _configure_pillow()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe can block forever
            raise DataError(f"{path}: is a folder, a device or a pipe; expected an image file", "unreadable-image")
        # not by path: Pillow would map some files into memory, where Pillow 13 scrambles a TIFF with an orientation
        with open(path, "rb") as file, Image.open(file, formats=tuple(FORMATS)) as image:
            if image.width * image.height > max_pixels:
                pixels = f"{image.width} x {image.height} = {image.width * image.height:,} pixels"
                raise DataError(f"{path}: has {pixels}; data.max_pixels is {max_pixels:,}", "unreadable-image")
            yield image
    except (DataError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file", "missing-image") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: {_unidentified(path)}", "unreadable-image") from error
    except Image.DecompressionBombError as error:
        message = f"{path}: has more than {MAX_PIXELS:,} pixels, the most that can be read"
        raise DataError(message, "unreadable-image") from error
    except Exception as error:  # a damaged file can raise anything: OSError, SyntaxError, struct.error, ...
        if is_out_of_files(error):
            raise
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as an image: {one_line(error)}", "unreadable-image")


def _unidentified(path: Path | str) -> str:
    """Description of a file that Pillow does not recognise."""
    with open(path, "rb") as file:
        start = file.read(TEXT_START_BYTES)
    if not start:
        return "is empty"
    text = start.decode("ascii", "ignore")
    if len(text) == len(start) and all(letter.isprintable() or letter.isspace() for letter in text):
        return f'not an image but text: "{" ".join(text.split())}"'
    return f"not an image, or of an unknown format ({os.path.getsize(path):,} bytes)"
