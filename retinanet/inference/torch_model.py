"""A model of torch, and what it detects in a batch."""

from collections.abc import Callable, Sequence

import torch

from retinanet.config.schema import DetectConfig
from retinanet.data.dataset import Sample
from retinanet.data.loader import Batch
from retinanet.detections import Detections
from retinanet.inference.exported_model import ExportedModel
from retinanet.model.postprocess import Stages, detect_stages
from retinanet.model.retinanet import Predictions, RetinaNet

# told of each batch: predictions, (height, width) of each resized image, samples, what passed each stage
StageObserver = Callable[[Predictions, Sequence[tuple[int, int]], Sequence[Sample], Sequence[Stages]], object]


@torch.inference_mode()
def detect_batch(
    model: RetinaNet | ExportedModel,
    batch: Batch,
    settings: DetectConfig,
    thresholds: Sequence[float] | None = None,
    watch: StageObserver | None = None,
) -> list[Detections]:
    """Objects in each image of a batch, in pixels of the original images.

    thresholds: (K,) score that detections of each class must exceed; None: that of `settings` for all.
    watch: not of an exported model, which gives no logits.
    """
    if isinstance(model, ExportedModel):
        if watch is not None:
            raise ValueError("an exported model gives no logits; expected a RetinaNet to watch")
        images = batch.images.permute(0, 2, 3, 1).numpy()
        original_sizes = [sample.original_size for sample in batch.samples]
        return model.detect(images, batch.sizes.numpy(), original_sizes, settings, thresholds)
    device = model.pixel_mean.device
    batch = batch.to(device)
    predictions = model(batch.images, batch.sizes)
    of_class = None if thresholds is None else torch.as_tensor(thresholds, dtype=torch.float32, device=device)
    sizes = [(int(height), int(width)) for height, width in batch.sizes]
    stages = detect_stages(
        predictions,
        sizes,
        [sample.original_size for sample in batch.samples],
        settings.score_threshold if of_class is None else of_class,
        settings.top_k,
        settings.nms_iou,
        settings.max_detections,
        settings.clip_first,
    )
    if watch is not None:
        watch(predictions, sizes, batch.samples, stages)
    return [stage.detections for stage in stages]
