"""Image files to RGB pixels.

Pillow decodes, not OpenCV: their pixels are equal and their times close (2.5 and 2.2 ms per image of COCO), but the
libjpeg and libpng inside OpenCV write to stderr and offer no way to stop them.
"""

import ctypes
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from retinanet.config.schema import MAX_PIXELS, DataConfig
from retinanet.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
}
FORMATS = tuple(dict.fromkeys(OF_SUFFIX.values()))  # of those that Pillow knows, others start programs: EPS Ghostscript
LARGEST = MAX_PIXELS
BAND = 2**20  # pixels
TEXT_START = 60  # bytes of a text that are looked at and shown

Image.MAX_IMAGE_PIXELS = LARGEST // 2  # Pillow refuses twice as many, whatever we allow
# What Pillow cannot overlook, it raises; the rest (odd metadata, many pixels) is no concern of the user's.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(OSError, AttributeError):  # libtiff, below Pillow, writes what it finds to stderr
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def read_image(
    path: Path | str, annotated_size: tuple[int, int] | None = None, max_pixels: int = DataConfig.max_pixels
) -> np.ndarray:
    """Pixels of an image file, (H, W, 3) uint8 RGB; of 16 bits the high byte, of several frames the first.

    Args:
        annotated_size: (height, width) that the annotator saw. It decides whether the EXIF orientation is followed;
            without it, the image is turned as EXIF says.
        max_pixels: a file whose header claims more is not decoded.
    Raises: DataError if the file cannot be read whole, claims too many pixels, or has the annotated size neither as
        stored nor turned.
    """
    with _opened(path, max_pixels) as image:
        if image.mode == "F":
            raise DataError(f"{path}: has floating-point pixels; expected 8 or 16 bits", "unreadable-image")
        stored = image.height, image.width
        image.load()
        if annotated_size != stored:
            with suppress(Exception):  # a broken EXIF block says nothing about orientation
                ImageOps.exif_transpose(image, in_place=True)
            if annotated_size not in (None, (image.height, image.width)):
                raise _wrong_size(path, stored, annotated_size)
        return _pixels(image)


def image_size(
    path: Path | str, annotated_size: tuple[int, int] | None = None, max_pixels: int = DataConfig.max_pixels
) -> tuple[int, int]:
    """(height, width) that `read_image` gives, from the file's header alone.

    Raises: DataError if the header cannot be read, claims too many pixels, or has the annotated size neither as stored
        nor turned.
    """
    with _opened(path, max_pixels) as image:
        stored = image.height, image.width
        if annotated_size == stored:
            return stored
        turned = False
        with suppress(Exception):
            # Pillow's size of a TIFF is the turned one already.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        size = stored[::-1] if turned else stored
        if annotated_size not in (None, size):
            raise _wrong_size(path, stored, annotated_size)
        return size


def format_and_frames(path: Path | str) -> tuple[str | None, bool]:
    """What the header of an image file tells beside its size. Raises: DataError.

    Returns: the format, such as "PNG", where the file's name ends in another's suffix; and whether the file is animated
        or has several pages.
    """
    with _opened(path) as image:
        camera = image.format == "MPO"  # a JPEG with others behind it
        kind = "JPEG" if camera else image.format
        named = OF_SUFFIX.get(Path(path).suffix.lower(), kind)
        return kind if kind != named else None, not camera and getattr(image, "is_animated", False)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded image; in bands, since Pillow converts and hands over by copies of it all."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        whole = rows >= image.height
        band = image if whole else image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.mode.startswith("I"):  # Pillow's convert() would clip 16 bits to 255
            pixels[top : top + rows] = (np.asarray(band).clip(0, 65535) >> 8)[:, :, None]
        else:
            pixels[top : top + rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def _wrong_size(path: Path | str, stored: tuple[int, int], annotated: tuple[int, int]) -> DataError:
    return DataError(
        f"{path}: is {stored[1]} x {stored[0]} pixels (width x height); "
        f"its annotation says {annotated[1]} x {annotated[0]}",
        "wrong-size",
    )


@contextmanager
def _opened(path: Path | str, max_pixels: int = LARGEST) -> Iterator[Image.Image]:
    """The image with its header read; whatever Pillow raises inside becomes a DataError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe may take forever
            raise DataError(f"{path}: is a folder, a device or a pipe; expected an image file", "unreadable-image")
        # Given a path, Pillow maps some files into memory, and Pillow 13 then scrambles a TIFF with an orientation.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                claimed = f"{image.width} x {image.height} = {image.width * image.height:,} pixels"
                raise DataError(f"{path}: claims {claimed}; data.max_pixels is {max_pixels:,}", "unreadable-image")
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file", "missing-image") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: {_unidentified(path)}", "unreadable-image") from error
    except Image.DecompressionBombError as error:
        message = f"{path}: claims more than {LARGEST:,} pixels, the most that are read"
        raise DataError(message, "unreadable-image") from error
    except Exception as error:  # a damaged file can raise anything: OSError, SyntaxError, struct.error, ...
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = " ".join(reason.split())[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image: {reason}", "unreadable-image") from error


def _unidentified(path: Path | str) -> str:
    """What a file is in which Pillow sees no image."""
    with open(path, "rb") as file:
        start = file.read(TEXT_START)
    if not start:
        return "is empty"
    text = start.decode("ascii", "ignore")
    if len(text) == len(start) and all(letter.isprintable() or letter.isspace() for letter in text):
        return f'not an image but text: "{" ".join(text.split())}"'
    return f"not an image, or of an unknown format ({os.path.getsize(path):,} bytes)"
