"""`sigmoid_focal_loss` in torchvision's place: what torchvision asks of its own, and where the two are compared."""

import inspect
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from retinanet import anchor_focal_loss, sigmoid_focal_loss
from retinanet.losses import elementwise

HALF = (torch.float16, torch.bfloat16)
TARGETS = ("hard", "soft", "both", "one hot")


def problem(kind="both", shape=(40, 7), dtype=torch.float64, spread=3.0, seed=0):
    """Logits, and targets of this kind: all 0 or 1, all between, some of each, or one 1 in a row."""
    generator = torch.Generator().manual_seed(seed)
    inputs = (spread * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    soft = torch.rand(shape, generator=generator, dtype=torch.float64)
    hard = soft.round()
    one_hot = F.one_hot(soft.argmax(dim=-1), shape[-1]).double()
    both = torch.where(torch.rand(shape, generator=generator) < 0.5, soft, hard)
    return inputs, {"hard": hard, "soft": soft, "both": both, "one hot": one_hot}[kind].to(dtype)


def value_and_gradient(loss, inputs, *arguments, **settings):
    inputs = inputs.detach().clone().requires_grad_()
    value = loss(inputs, *arguments, **settings)
    (value * torch.linspace(0.5, 2, value.numel()).view(value.shape)).sum().backward()
    return value.detach(), inputs.grad


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("kind", TARGETS)
def test_value_and_gradient_are_torchvisions(kind, reduction, dtype, tolerance):
    inputs, targets = problem(kind, dtype=dtype)
    for alpha, gamma in itertools.product([-1, 0, 0.25, 1], [0, 0.5, 1, 2, 5]):
        arguments = inputs, targets, alpha, gamma, reduction
        expected, expected_gradient = value_and_gradient(torchvision_focal_loss, *arguments)
        value, gradient = value_and_gradient(sigmoid_focal_loss, *arguments)
        assert value.shape == expected.shape and value.dtype == dtype
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
        # autograd rounds more often in float32
        torch.testing.assert_close(gradient, expected_gradient, rtol=2 * tolerance, atol=2 * tolerance)
        with torch.no_grad():
            assert torch.equal(sigmoid_focal_loss(*arguments), value)


def test_signature_and_defaults_are_torchvisions():
    def parameters(loss):
        return [(each.name, each.default, each.kind) for each in inspect.signature(loss).parameters.values()]

    assert parameters(sigmoid_focal_loss) == parameters(torchvision_focal_loss)
    inputs, targets = problem()
    torch.testing.assert_close(sigmoid_focal_loss(inputs, targets), torchvision_focal_loss(inputs, targets))


@pytest.mark.parametrize("kind", TARGETS)
def test_gamma_0_without_weights_is_cross_entropy(kind):
    inputs, targets = problem(kind)
    for reduction in ("none", "mean", "sum"):
        entropy = F.binary_cross_entropy_with_logits(inputs, targets, reduction=reduction)
        loss = sigmoid_focal_loss(inputs, targets, alpha=-1, gamma=0, reduction=reduction)
        torch.testing.assert_close(loss, entropy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_the_ratio_to_cross_entropy_is_1_minus_p_t_to_gamma(gamma):
    inputs, targets = problem("hard")
    p = inputs.sigmoid()
    p_t = torch.where(targets == 1, p, 1 - p)
    ratio = sigmoid_focal_loss(inputs, targets, -1, gamma) / F.binary_cross_entropy_with_logits(
        inputs, targets, reduction="none"
    )
    torch.testing.assert_close(ratio, (1 - p_t) ** gamma, rtol=1e-9, atol=0)


def test_a_sure_and_right_answer_counts_a_hundredth_and_an_unsure_one_a_quarter():
    inputs = torch.tensor([math.log(9), 0.0], dtype=torch.float64)  # p_t 0.9 and 0.5
    loss = sigmoid_focal_loss(inputs, torch.ones(2, dtype=torch.float64), alpha=-1)
    torch.testing.assert_close(loss, torch.tensor([-0.01 * math.log(0.9), 0.25 * math.log(2)], dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0, 0.1, 0.25, 0.5, 0.9, 1])
def test_alpha_weighs_target_1_and_the_rest_of_1_weighs_target_0(alpha):
    inputs, targets = problem("hard")
    unweighted = sigmoid_focal_loss(inputs, targets, alpha=-1)
    weighted = sigmoid_focal_loss(inputs, targets, alpha=alpha)
    torch.testing.assert_close(weighted[targets == 1], alpha * unweighted[targets == 1])
    torch.testing.assert_close(weighted[targets == 0], (1 - alpha) * unweighted[targets == 0])


def test_one_row_with_a_label_is_the_loss_of_an_anchor():
    inputs, targets = problem("one hot")
    loss = sigmoid_focal_loss(inputs, targets, 0.25, 2, "sum")
    torch.testing.assert_close(loss, anchor_focal_loss(inputs, targets.argmax(dim=1), 0.25, 2))


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, torchvision_focal_loss])
def test_wrong_arguments_are_refused_as_by_torchvision(loss):
    inputs, targets = problem()
    for alpha in (1.5, -0.5, -2):
        with pytest.raises(ValueError, match="Invalid alpha value"):
            loss(inputs, targets, alpha=alpha)
    with pytest.raises(ValueError, match="Invalid"):
        loss(inputs, targets, reduction="summ")
    for wrong in (targets[:, :1], targets[0], targets.argmax(dim=1)):
        with pytest.raises(ValueError, match=r"Target size .* must be the same as input size"):
            loss(inputs, wrong)


def test_class_labels_in_place_of_targets_name_the_function_that_takes_them():
    with pytest.raises(ValueError, match="anchor_focal_loss"):
        sigmoid_focal_loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_half_precision_is_that_of_float64_rounded_once(dtype, reduction):
    inputs, targets = problem(dtype=dtype)
    expected, slope = value_and_gradient(sigmoid_focal_loss, inputs.double(), targets.double(), reduction=reduction)
    value, gradient = value_and_gradient(sigmoid_focal_loss, inputs, targets, reduction=reduction)
    assert value.dtype == gradient.dtype == dtype
    settings = {"rtol": torch.finfo(dtype).eps, "atol": torch.finfo(dtype).tiny}
    torch.testing.assert_close(value.double(), expected, **settings)
    torch.testing.assert_close(gradient.double(), slope, **settings)
    theirs = torchvision_focal_loss(inputs, targets, reduction=reduction)
    assert theirs.dtype == dtype
    torch.testing.assert_close(value.double(), theirs.double(), rtol=0.1, atol=0.02)  # its arithmetic is the half one


@pytest.mark.parametrize(
    "dtypes", [(torch.float16, torch.float32), (torch.float32, torch.float64), (torch.float64,) * 2]
)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_dtype_of_the_result_is_torchvisions(dtypes, autocast):
    inputs, targets = (each.to(dtype) for each, dtype in zip(problem(), dtypes, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        ours, theirs = sigmoid_focal_loss(inputs, targets), torchvision_focal_loss(inputs, targets)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0,)])
def test_no_targets_cost_nothing(shape):
    inputs, targets = torch.zeros(shape, requires_grad=True), torch.zeros(shape)
    loss = sigmoid_focal_loss(inputs, targets, reduction="sum")
    loss.backward()
    assert float(loss.detach()) == 0 and inputs.grad.shape == shape
    assert sigmoid_focal_loss(inputs, targets).shape == shape
    assert sigmoid_focal_loss(inputs, targets, reduction="mean").isnan()  # as torch's mean of nothing


def test_a_device_without_autocast():
    inputs = torch.zeros(3, 2, device="meta")
    assert sigmoid_focal_loss(inputs, inputs).shape == (3, 2)
    assert sigmoid_focal_loss(inputs, inputs, reduction="sum").shape == ()


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4, 5)])
def test_any_shape(shape):
    inputs, targets = torch.full(shape, 0.7), torch.full(shape, 0.9)
    for ours, theirs in zip(
        value_and_gradient(sigmoid_focal_loss, inputs, targets),
        value_and_gradient(torchvision_focal_loss, inputs, targets),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_transposed_and_expanded_tensors():
    inputs, targets = problem()
    targets = targets[:1].expand(40, 7)
    for reduction in ("none", "sum"):
        expected, slope = value_and_gradient(sigmoid_focal_loss, inputs, targets.contiguous(), reduction=reduction)
        leaf = inputs.t().contiguous().requires_grad_()
        value = sigmoid_focal_loss(leaf.t(), targets, reduction=reduction)
        torch.testing.assert_close(value.detach(), expected)
        (value * torch.linspace(0.5, 2, value.numel()).view(value.shape)).sum().backward()
        torch.testing.assert_close(leaf.grad.t(), slope)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_first_and_second_derivatives_pass_gradcheck(kind, reduction, gamma):
    inputs, targets = problem(kind, shape=(4, 3), seed=1)
    inputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, targets, 0.25, gamma, reduction), inputs)
    assert torch.autograd.gradgradcheck(lambda x: sigmoid_focal_loss(x, targets, 0.25, gamma, reduction), inputs)


def test_targets_get_a_gradient_if_they_require_one():
    inputs, targets = problem("soft", shape=(4, 3))
    inputs.requires_grad_(), targets.requires_grad_()
    assert torch.autograd.gradcheck(sigmoid_focal_loss, (inputs, targets))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_every_backward_pass_gives_a_gradient_of_its_own(reduction):
    inputs, targets = problem()
    inputs.requires_grad_()
    upstream = torch.ones(inputs.shape if reduction == "none" else (), dtype=inputs.dtype)
    loss = sigmoid_focal_loss(inputs, targets, reduction=reduction)
    first, second, third = (
        torch.autograd.grad(loss, inputs, scale * upstream, retain_graph=True)[0] for scale in (0, 3, 1)
    )
    assert not first.any()
    torch.testing.assert_close(second, 3 * third)


@pytest.mark.parametrize("kind", TARGETS)
def test_chunks_change_neither_loss_nor_gradient(monkeypatch, kind):
    inputs, targets = problem(kind)
    for reduction in ("none", "mean", "sum"):
        expected = value_and_gradient(sigmoid_focal_loss, inputs, targets, reduction=reduction)
        for chunk in (1, 35, 279):
            monkeypatch.setattr(elementwise, "CPU_CHUNK", chunk)
            in_chunks = value_and_gradient(sigmoid_focal_loss, inputs, targets, reduction=reduction)
            torch.testing.assert_close(in_chunks, expected, rtol=1e-12, atol=1e-15)
            monkeypatch.undo()


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_threads_change_nothing(two_threads, mode, reduction):
    inputs, targets = problem(shape=(1000, 90), dtype=torch.float32)
    with mode():
        loss = sigmoid_focal_loss(inputs, targets, reduction=reduction)
        leaf = inputs.clone().requires_grad_()
        both = sigmoid_focal_loss(leaf, targets, reduction=reduction)
    assert len(inputs.view(-1)) > 2 * elementwise.CPU_CHUNK
    assert both.requires_grad == (mode is torch.enable_grad) and not loss.requires_grad
    torch.set_num_threads(1)
    expected, slope = value_and_gradient(sigmoid_focal_loss, inputs, targets, reduction=reduction)
    assert torch.equal(loss, expected) and torch.equal(both.detach(), expected)
    if mode is torch.enable_grad:
        (both * torch.linspace(0.5, 2, both.numel()).view(both.shape)).sum().backward()
        assert torch.equal(leaf.grad, slope)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["one hot", "soft"])
def test_the_memory_is_one_gradient_and_a_few_chunks(monkeypatch, kind, reduction):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Large(TorchDispatchMode):
        """Counts the elements of new tensors that have at least a quarter of the inputs'."""

        made = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            given = [each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)]
            if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in given:
                self.made += result.numel() if result.numel() >= inputs.numel() / 4 else 0
            return result

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # a dispatch mode sees its own thread
    inputs, targets = problem(kind, shape=(20_000, 80), dtype=torch.float32)
    inputs.requires_grad_()
    with Large() as ours:
        sigmoid_focal_loss(inputs, targets, reduction=reduction).backward()
    with Large() as theirs:
        torchvision_focal_loss(inputs, targets, reduction=reduction).backward()
    assert ours.made == inputs.numel()
    assert theirs.made > 8 * inputs.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_saturated_logits_give_the_straight_line(gamma, dtype):
    inputs = torch.tensor([200.0, -200, 200, -200, 200, -200], dtype=dtype)
    targets = torch.tensor([1, 1, 0, 0, 0.5, 0.5], dtype=dtype)
    value, gradient = value_and_gradient(lambda *x: sigmoid_focal_loss(*x, -1, gamma).sum(), inputs, targets)
    half = 0.5**gamma
    assert float(value) == pytest.approx(400 + 200 * half, rel=0.01)
    expected = torch.tensor([0, -1, 1, 0, 0.5 * half, -0.5 * half], dtype=dtype) * 0.5  # the upstream
    torch.testing.assert_close(gradient, expected, rtol=0.01, atol=1e-30)


def test_a_small_loss_keeps_its_digits():
    # p_t is 1 - 2e-9, which is 1 in float32; the formula with 1 - p_t gives 0 for both
    inputs, targets = torch.tensor([20.0, -20.0]), torch.tensor([1.0, 0.0])
    value, gradient = value_and_gradient(sigmoid_focal_loss, inputs, targets, alpha=-1)
    exact, slope = value_and_gradient(sigmoid_focal_loss, inputs.double(), targets.double(), alpha=-1)
    assert 0 < float(value.min()) < 1e-25
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=0)


def test_a_target_that_marks_what_the_caller_leaves_out_gives_no_nan():
    inputs, targets = problem("hard", dtype=torch.float32, spread=30)
    targets[::3] = -1
    kept = targets >= 0
    gradients = []
    for loss in (sigmoid_focal_loss, torchvision_focal_loss):
        leaf = inputs.clone().requires_grad_()
        loss(leaf, targets)[kept].sum().backward()
        gradients.append(leaf.grad)
    assert not gradients[0][~kept].any()
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_torchscript():
    inputs, targets = problem()
    traced = torch.jit.trace(lambda x, t: sigmoid_focal_loss(x, t), (inputs, targets))
    scripted = torch.jit.script(sigmoid_focal_loss)
    torch.testing.assert_close(traced(inputs, targets), sigmoid_focal_loss(inputs, targets))
    for reduction in ("none", "mean", "sum"):
        settings = {"alpha": 0.3, "gamma": 1.5, "reduction": reduction}
        expected = value_and_gradient(sigmoid_focal_loss, inputs, targets, **settings)
        torch.testing.assert_close(value_and_gradient(scripted, inputs, targets, **settings), expected)


def test_torch_compile_gives_one_graph():
    inputs, targets = problem()
    compiled = torch.compile(sigmoid_focal_loss, backend="eager", fullgraph=True)
    expected = value_and_gradient(sigmoid_focal_loss, inputs, targets)
    torch.testing.assert_close(value_and_gradient(compiled, inputs, targets), expected)
