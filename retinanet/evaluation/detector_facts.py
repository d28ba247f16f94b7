"""What must be known of detectors to compare them fairly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DetectorFacts:
    """How detections were made; None where it is not known.

    detections_per_image: their mean number. max_detections: its limit. weights: their number, as the detector runs.
    resolution: of resized images, in pixels: the short side, and the limit of the long one.
    ms_per_image: median time of detection; `evaluate` measures it from resized images on, `retina bench` from images.
    """

    detections_per_image: float | None = None
    resolution: tuple[int, int] | None = None
    max_detections: int | None = None
    weights: int | None = None
    ms_per_image: float | None = None


def resolutions_differ(*facts: DetectorFacts) -> bool | None:
    """Whether detectors see images at different resolutions; None if that is not known of all."""
    known = {each.resolution for each in facts if each.resolution is not None}
    if len(known) > 1:
        return True
    return False if all(each.resolution is not None for each in facts) else None
