"""Images are read ahead of the detector."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from retinanet.detections import NO_DETECTIONS
from retinanet.errors import DataError
from retinanet.inference.predict import predict


def detector(**functions: Any) -> Any:
    return SimpleNamespace(**functions)


def test_the_next_batch_is_read_while_the_detector_computes():
    read = [threading.Event() for _ in range(6)]

    def read_image(file: Path) -> np.ndarray:
        read[int(file.name)].set()
        return np.full((1, 1, 3), int(file.name), np.uint8)

    def detect(images: list[np.ndarray], labels: object) -> list:
        last = int(images[-1].max())
        assert all(event.wait(10) for event in read[last + 1 : last + 3])
        assert not any(event.is_set() for event in read[last + 3 :])  # at most one batch ahead
        return [NO_DETECTIONS] * len(images)

    found = list(predict(detector(read=read_image, predict_batch=detect), map(str, range(6)), batch_size=2))
    assert [item.file.name for item in found] == list("012345")


def test_an_error_of_reading_ends_the_prediction_where_it_stands():
    def read_image(file: Path) -> np.ndarray:
        if file.name == "1":
            raise DataError("1: not an image")
        if file.name == "2":
            raise MemoryError
        return np.zeros((1, 1, 3), np.uint8)

    results = predict(
        detector(read=read_image, predict_batch=lambda images, _: [NO_DETECTIONS] * len(images)), ["0", "1", "2", "3"]
    )
    assert [next(results).fault, next(results).fault] == [None, "1: not an image"]
    with pytest.raises(MemoryError):
        next(results)
