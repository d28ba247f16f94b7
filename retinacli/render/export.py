"""What `retina export` tells of the file that it wrote."""

from typing import TYPE_CHECKING, Any

from retinacli import console as render

if TYPE_CHECKING:
    from retinanet.export.export import Exported


def document(done: "Exported") -> dict[str, Any]:
    told = {"file": str(done.file), "agreement": vars(done.agreement)}
    return told | ({"ap": {"torch": done.ap[0], "exported": done.ap[1], "images": done.images}} if done.ap else {})


def summary(done: "Exported") -> None:
    agreed = done.agreement
    share = f"{agreed.detections - agreed.others} of {agreed.detections}" if agreed.others else f"{agreed.detections}"
    render.message(
        f"{share} detections agree with torch's but for {agreed.boxes:.2g} pixels and {agreed.scores:.2g} in score"
    )
    if done.ap is not None:
        before, after = done.ap
        render.message(f"AP {after:.4f} in int8, {before:.4f} by torch: {after - before:+.4f}, on {done.images} images")
    render.message(f"wrote {done.file}; use it: retina predict IMAGE -w {done.file}")
