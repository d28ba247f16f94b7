"""The class imbalance that each detector of table 2 faces, before and after the selection of its candidates."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from retinanet.config.schema import Config
from retinanet.data.dataset import Dataset
from retinanet.data.loader import Batch, collate
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.dataset_analysis.imbalance import MOST_IMAGES, evenly_spaced, imbalance
from retinanet.evaluation.evaluate import EvaluatedModel
from retinanet.losses.criterion import Targets
from retinanet.paper.baseline_method import BaselineModel
from retinanet.paper.baselines import BaselineNetwork, has_proposals, torchvision_targets
from retinanet.paper.tables import Row

IGNORED, BACKGROUND = -1, 0  # labels as in torchvision; those of foreground are larger

# detector and kind of candidates -> the least and the largest number per image (sections 1 and 4.1)
PAPER_NUMBER = {("retinanet", "anchors"): (100_000, 100_000), ("faster-rcnn", "proposals"): (1000, 2000)}
# the same -> number of background candidates for each of foreground (sections 1 and 5.1)
PAPER_RATIO = {("faster-rcnn", "sampled RoIs"): 3, ("ssd", "mined boxes"): 3}


@dataclass(frozen=True)
class Candidates:
    """The candidates of one kind that a detector has in an image, means over images.

    detector: as in `Row`. number: of all candidates. foreground, background: of those that match an object and none, by
    the detector's own matching; it ignores the others.
    """

    detector: str
    kind: str
    number: float
    foreground: float
    background: float

    @property
    def ratio(self) -> float | None:
        """Number of background candidates for each of foreground; None without foreground."""
        return self.background / self.foreground if self.foreground else None

    @property
    def paper_number(self) -> tuple[int, int] | None:
        """The least and the largest number of candidates in the paper; None if it gives none."""
        return PAPER_NUMBER.get((self.detector, self.kind))

    @property
    def paper_ratio(self) -> int | None:
        """`ratio` in the paper; None if it gives none."""
        return PAPER_RATIO.get((self.detector, self.kind))


@dataclass(frozen=True)
class CandidateCounts:
    """kinds: of all detectors, in the order in which each selects. images: counted; dataset_images: all."""

    kinds: list[Candidates]
    images: int
    dataset_images: int


def count_candidates(
    rows: Sequence[Row],
    models: Mapping[str, EvaluatedModel],
    dataset: Dataset,
    progress: Callable[[int, int], object],
) -> CandidateCounts:
    """Count the candidates of the detectors of table 2 in the images of `dataset`, at most MOST_IMAGES of them.

    All images have the size at which the detectors are evaluated. An unreadable image has no objects for Faster R-CNN
    and SSD. Rows of the same detector have the same candidates, which are counted once.

    Args:
        models: the trained detectors by value of `rows`; rows without one are left out.
        progress: called with (images done, all images) after each image in which Faster R-CNN or SSD detects.
    """
    trained = {row.detector: row for row in rows if row.value in models}
    indices = evenly_spaced(len(dataset), MOST_IMAGES)
    totals: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3))  # number, foreground, background
    if row := trained.get("retinanet"):
        found = imbalance(_at_one_size(row.config), dataset)
        totals["retinanet", "anchors"] = np.array([found.anchors, found.foreground, found.background]) * len(indices)
    networks = {name: _network(models[row.value]) for name, row in trained.items() if name != "retinanet"}
    samples = EvalSamples(dataset, Resizing.from_config(rows[0].config.data))
    for done, index in enumerate(indices if networks else (), 1):
        batch = collate([samples[index]])
        for name, network in networks.items():
            for kind, labels in labels_of_candidates(network, batch).items():
                counts = (len(labels), int((labels > BACKGROUND).sum()), int((labels == BACKGROUND).sum()))
                totals[name, kind] += counts
        progress(done, len(indices))
    kinds = [Candidates(*key, *(counts / len(indices)).tolist()) for key, counts in totals.items()]
    return CandidateCounts(kinds, len(indices), len(dataset))


def labels_of_candidates(network: BaselineNetwork, batch: Batch) -> dict[str, Tensor]:
    """The label of each candidate in the one image of `batch`, by kind: IGNORED, BACKGROUND or larger.

    network: in evaluation mode, and so afterwards.
    """
    batch = batch.to(network.pixel_mean.device)
    targets = torchvision_targets(Targets(batch.boxes, batch.labels, batch.crowd))
    if has_proposals(network.detector):
        return _labels_in_faster_rcnn(network, batch, targets)
    return _labels_in_ssd(network, batch, targets)


@torch.no_grad()
def _labels_in_faster_rcnn(
    network: BaselineNetwork, batch: Batch, targets: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Anchors, those whose losses are computed, proposals of inference, and the RoIs that the second stage trains on.

    The last are sampled, as in training, from the objects and the proposals of training, of which there are more.
    """
    rpn, roi_heads = network.detector.rpn, network.detector.roi_heads
    images = network.inputs(batch.images, batch.sizes)
    features = network.detector.backbone(images.tensors)
    anchors = rpn.anchor_generator(images, list(features.values()))
    labels, _ = rpn.assign_targets_to_anchors(anchors, targets)
    [positive], [negative] = rpn.fg_bg_sampler(labels)
    proposals, _ = rpn(images, features)
    _, of_proposals = roi_heads.assign_targets_to_proposals(
        proposals, [each["boxes"] for each in targets], [each["labels"] for each in targets]
    )
    training_proposals, _ = rpn.train()(images, features, targets)
    rpn.eval()
    _, _, of_rois, _ = roi_heads.select_training_samples(training_proposals, targets)
    return {
        "anchors": labels[0],
        "sampled anchors": labels[0][(positive | negative).bool()],
        "proposals": of_proposals[0],
        "sampled RoIs": of_rois[0],
    }


def _labels_in_ssd(network: BaselineNetwork, batch: Batch, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Default boxes, and those whose losses are computed: the foreground, and background of which scores choose."""
    detector = network.detector
    images = network.inputs(batch.images, batch.sizes)
    with torch.no_grad():
        features = list(detector.backbone(images.tensors).values())
    [boxes] = detector.anchor_generator(images, features)
    [objects] = targets
    matched = torch.full((len(boxes),), -1, device=boxes.device)
    if len(objects["boxes"]):
        matched = detector.proposal_matcher(box_iou(objects["boxes"], boxes))
    labels = (matched >= 0).long()
    # the scores change which background is mined, but not how much
    columns = detector.head.classification_head.num_columns
    logits = boxes.new_zeros((1, len(boxes), columns), requires_grad=True)
    outputs = {"cls_logits": logits, "bbox_regression": boxes.new_zeros((1, len(boxes), 4))}
    losses = detector.compute_loss(targets, outputs, [boxes], [matched])
    [gradient] = torch.autograd.grad(losses["classification"], logits)
    mined = gradient[0].ne(0).any(dim=1)  # only what is in the loss has a gradient
    return {"default boxes": labels, "mined boxes": labels[mined]}


def _network(model: EvaluatedModel) -> BaselineNetwork:
    assert isinstance(model, BaselineModel)
    return model.copy_for_evaluation().network


def _at_one_size(config: Config) -> Config:
    """The config without multi-scale training."""
    return replace(config, train=replace(config.train, augment=replace(config.train.augment, short_sides=None)))
