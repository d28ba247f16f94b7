"""Shows an export: agreement with the original and, for int8, the AP of both."""

import shlex
from typing import Any

from retinacli.console import message, print_json
from retinanet.export.export import Exported


def show_export(exported: Exported, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"file": str(exported.file), "agreement": vars(exported.agreement)}
        if exported.ap is not None:
            document["ap"] = {"torch": exported.ap[0], "exported": exported.ap[1], "images": exported.images}
        print_json(document)
        return
    close = exported.agreement
    count = f"{close.detections - close.others} of {close.detections}" if close.others else f"{close.detections}"
    message(
        f"{count} detections match those of PyTorch within {close.boxes:.2g} pixels and a score of {close.scores:.2g}"
    )
    if exported.ap is not None:
        before, after = exported.ap
        where = f"on {exported.images} images"
        message(f"AP {after:.4f} in int8, {before:.4f} in PyTorch: {after - before:+.4f} {where}")
    message(f"wrote {exported.file}; use it: {shlex.join(['retina', 'predict', 'IMAGE', '-w', str(exported.file)])}")
