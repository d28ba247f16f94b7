"""Pictures of a page that show which boxes are right, wrong and missed."""

import base64
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.errors import DataError
from retinanet.evaluation.image_errors import Boxes, ImageErrors
from retinanet.report.html import Html, html, shortened

KINDS = {"missed": "missed", "wrong": "false_positives", "right": "true_positives"}  # -> of ImageErrors
LONG_SIDE, QUALITY = 640, 80  # of the JPEGs


def gallery(dataset: Dataset, names: Sequence[str], shown: Sequence[ImageErrors]) -> Html:
    """A picture for each of `shown`, on top what shows and hides each kind of box. names: K."""
    switches = "".join(
        f'<label><input type="checkbox" id="show-{kind}" checked>{_sample(kind)} {kind}</label>\n' for kind in KINDS
    )
    pictures = "".join(_picture(dataset, names, each) for each in shown)
    return Html(f'<div class="gallery">\n{switches}<div class="pictures">\n{pictures}</div></div>\n')


def _picture(dataset: Dataset, names: Sequence[str], verdict: ImageErrors) -> str:
    file = html(dataset.files[verdict.index])
    counts = ", ".join(f"{len(getattr(verdict, name))} {kind}" for kind, name in KINDS.items())
    caption = f"<figcaption><strong>{file}</strong>: {counts}</figcaption>"
    try:
        image = dataset.image(verdict.index)
    except DataError as error:
        return f'<figure><p class="unreadable">{html(error)}</p>{caption}</figure>\n'
    height, width = image.shape[:2]
    letter = round(width / 38, 1)
    return (
        f'<figure><svg class="picture" role="img" aria-label="{file}: {counts}" viewBox="0 0 {width} {height}" '
        f'font-size="{letter}">\n'
        f'<image width="{width}" height="{height}" preserveAspectRatio="none" href="{_data_uri(image)}"/>\n'
        f"{''.join(_marks(names, verdict, (width, height), letter))}</svg>{caption}</figure>\n"
    )


def _marks(names: Sequence[str], verdict: ImageErrors, size: tuple[int, int], letter: float) -> Iterator[str]:
    """Large boxes first, so that the pointer reaches small ones; the faults' names on top."""
    width, height = size
    of_kind: dict[str, Boxes] = {kind: getattr(verdict, name) for kind, name in KINDS.items()}
    marks = [
        (kind, names[label], score, np.clip([x, y, x + w, y + h], 0, [width, height, width, height]).tolist())
        for kind, of in of_kind.items()
        for (x, y, w, h), label, score in zip(of.boxes.tolist(), of.labels, of.scores.tolist(), strict=True)
    ]
    marks.sort(key=lambda mark: -(mark[3][2] - mark[3][0]) * (mark[3][3] - mark[3][1]))
    for kind, name, score, (x1, y1, x2, y2) in marks:
        place = f'x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"'
        text = html(f"{kind}: {_text(name, score)}")
        yield f'<g class="{kind}"><rect class="rim" {place}/><rect {place}><title>{text}</title></rect></g>\n'
    for kind, name, score, (x1, y1, x2, _) in marks:
        if kind != "right":
            right_half = x1 + x2 > width
            x, anchor = (x2, ' text-anchor="end"') if right_half else (x1, "")
            y = y1 - 0.3 * letter if y1 > 1.2 * letter else y1 + letter
            yield f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{html(_text(shortened(name), score))}</text>\n'


def _text(name: str, score: float) -> str:
    return name if np.isnan(score) else f"{name} {score:.2f}"


def _sample(kind: str) -> str:
    return (
        f'<svg class="sample" aria-hidden="true" viewBox="0 0 30 16"><g class="{kind}">'
        '<rect x="2" y="2" width="26" height="12"/></g></svg>'
    )


def _data_uri(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    scale = min(1, LONG_SIDE / max(height, width))
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    _, encoded = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
