"""RetinaNet in PyTorch, with the same methods as an exported model."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retinanet import devices
from retinanet.checkpoints.metadata import Metadata
from retinanet.checkpoints.pretrained import open_model
from retinanet.config.schema import DetectConfig
from retinanet.data.transforms import Resizing
from retinanet.detections import Detections
from retinanet.errors import CheckpointError, ConfigError
from retinanet.model.batched_postprocess import detect_batch
from retinanet.model.batchnorm_folding import fold_for_inference
from retinanet.model.postprocess import Stages, detect_stages
from retinanet.model.retinanet import Predictions, RetinaNet
from retinanet.precision import Precision, PrecisionChoice, fastest_precision

# called with the predictions of a batch, (height, width) of each resized image, and the boxes after each stage
StageObserver = Callable[[Predictions, Sequence[tuple[int, int]], Sequence[Stages]], object]


class NetworkOnDevice:
    """Where a network is, and how large."""

    network: Any  # with the tensor pixel_mean

    @property
    def device(self) -> torch.device:
        return self.network.pixel_mean.device

    @property
    def on_gpu(self) -> bool:
        """Whether pinned memory speeds up the transfer to the device."""
        return self.device.type == "cuda"

    @property
    def weights(self) -> int:
        return number_of_weights(self.network)


def number_of_weights(network: nn.Module) -> int:
    """The number of weights and biases of a network."""
    return sum(each.numel() for each in network.parameters())


class TorchModel(NetworkOnDevice):
    """A RetinaNet in evaluation mode on its device, with the methods of `ExportedModel`.

    file: where the weights are from; None: they are being trained, and training judges by itself whether it diverges.
    precision: of the network's arithmetic; boxes, scores and the suppression are computed in float32.
    """

    network: RetinaNet
    STAGES = ("trunk", "FPN", "subnets", "decode + NMS")  # marked by `at_stages`

    def __init__(self, network: RetinaNet, file: str | Path | None = None, precision: Precision = "fp32"):
        self.network, self.file, self.precision = network, file, precision

    def resizing(self, configured: Resizing) -> Resizing:
        """`configured`: torch supports all methods."""
        return configured

    def copy_for_evaluation(self) -> "TorchModel":
        """A copy with batch normalisation folded; the model itself can be trained further."""
        return TorchModel(fold_for_inference(copy.deepcopy(self.network)), self.file, self.precision)

    def with_classes(self, labels: Sequence[int]) -> "TorchModel":
        """A copy that detects only these classes, in this order; their scores do not change."""
        network = copy.deepcopy(self.network)
        network.keep_classes(labels)
        return TorchModel(network, self.file, self.precision)

    @torch.inference_mode()
    def detect(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        thresholds: Sequence[float] | None = None,
        observer: StageObserver | None = None,
    ) -> list[Detections]:
        """Detect objects in each image of a batch.

        Args:
            images: (B, H, W, 3) RGB in 0..255, uint8 or float32, resized and padded by `pad`.
            sizes: (B, 2) int64, height and width of each image without the padding.
            original_sizes: B of (height, width) in pixels before the images were resized.
            thresholds: (K,) in 0..1, the score that detections of each class must exceed; None: that of `settings`.
        Returns: B Detections in pixels of the original images.
        Raises: CheckpointError if a prediction of the weights in `file` is NaN or infinite.
        """
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device, non_blocking=True)  # (B, 3, H, W)
        predictions = self._predictions(pixels, torch.from_numpy(sizes).to(self.device, non_blocking=True))
        resized_sizes = [(height, width) for height, width in sizes.tolist()]
        score_threshold: float | Tensor = settings.score_threshold
        if thresholds is not None:
            score_threshold = torch.tensor(thresholds, dtype=torch.float32).to(self.device, non_blocking=True)
        limits = settings.top_k, settings.nms_iou, settings.max_detections, settings.clip_first
        arguments = predictions, resized_sizes, original_sizes, score_threshold, *limits
        if self.on_gpu and observer is None:
            detections, finite = detect_batch(*arguments)
            self._check(finite)
            return detections
        self._check(predictions.finite())
        stages = detect_stages(*arguments)
        if observer is not None:
            observer(predictions, resized_sizes, stages)
        return [stage.detections for stage in stages]

    def _check(self, finite: bool | Tensor) -> None:
        """Raises: CheckpointError if the predictions of the weights in `file` are not finite."""
        if self.file is not None and not finite:
            cause = "they may be too large for fp16" if self.precision == "fp16" else "its weights may hold NaN"
            raise CheckpointError(f"{self.file}: its logits or boxes are not finite; {cause}")

    def _predictions(self, images: Tensor, sizes: Tensor) -> Predictions:
        """What `network` predicts in `precision`, as float32."""
        with devices.computing_in(self.precision, self.device):
            raw = self.network(images, sizes)
        return Predictions([x.float() for x in raw.logits], [x.float() for x in raw.deltas], raw.anchors)

    def detect_and_count(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
    ) -> tuple[list[Detections], int | None, int | None]:
        """`detect`, with the number of anchors per image and of scores above the threshold in the batch."""
        anchors = candidates = 0

        def count(predictions: Predictions, *_: object) -> None:
            nonlocal anchors, candidates
            anchors = sum(map(len, predictions.anchors))
            scores = (logits.float().sigmoid() for logits in predictions.logits)
            candidates = sum(int((score > settings.score_threshold).sum()) for score in scores)

        return self.detect(images, sizes, original_sizes, settings, observer=count), anchors, candidates

    @contextmanager
    def at_stages(self, mark: Callable[[], None]) -> Iterator[None]:
        """Within the context, `detect` calls `mark` at the start of each of STAGES."""

        def hook(*_: object) -> None:
            mark()

        network = self.network
        with ExitStack() as hooks:
            hooks.enter_context(network.register_forward_pre_hook(hook))
            for part in (network.backbone, network.fpn, network):
                hooks.enter_context(part.register_forward_hook(hook))
            yield

    def synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def peak_memory(self) -> int:
        """Peak memory in bytes, of the GPU or else of this process."""
        return devices.peak_memory(self.device)

    def describe_machine(self) -> str:
        """Description of the device."""
        return devices.describe_device(self.device)


def open_for_inference(
    path: str | Path, device: torch.device, precision: PrecisionChoice = "fp32"
) -> tuple[TorchModel, Metadata]:
    """`open_model` with batch normalisation folded, on `device`.

    Raises: CheckpointError; ConfigError if `device` does not compute in `precision`.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 is for GPUs; on a CPU, expected fp32 or bf16")
    network, metadata = open_model(path)
    if precision == "auto":
        precision = fastest_precision(device, metadata.config.model.head_channels, backward=False)
    network = fold_for_inference(network.to(device)).to(memory_format=torch.channels_last)
    return TorchModel(network, path, precision), metadata
