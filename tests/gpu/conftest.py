from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def exact_convolutions() -> Iterator[None]:
    """A GPU computes convolutions of fp32 with all its bits, not in TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
