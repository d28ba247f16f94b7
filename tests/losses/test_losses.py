"""The classification losses compared with their formulas and with torchvision, and the cases that break other code."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from retinanet.config.schema import best_alpha
from retinanet.losses import fused
from retinanet.losses.focal import anchor_cross_entropy, anchor_focal_loss, anchor_focal_star_loss, focal
from retinanet.losses.matching import BACKGROUND, IGNORE

GAMMAS = [0, 0.5, 1, 2, 5]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def rows(seed: int = 0, count: int = 60, classes: int = 5):
    """Logits with labels of every kind."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(IGNORE, classes, (count,), generator=generator)


def one_hot(labels, classes):
    return F.one_hot(labels.clamp(min=0), classes) * (labels >= 0)[:, None]


def written_out(logits, labels, alpha, gamma):
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), summed over classes and rows that are not ignored."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        for k, x in enumerate(row if label != IGNORE else []):
            p = 1 / (1 + math.exp(-x))
            p_t, alpha_t = (p, alpha) if k == label else (1 - p, 1 - alpha)
            total -= alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return total


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_equals_its_formula_and_torchvisions(gamma, alpha):
    logits, labels = rows()
    loss = anchor_focal_loss(logits, labels, alpha, gamma)
    assert float(loss) == pytest.approx(written_out(logits, labels, alpha, gamma), rel=1e-9)
    kept = labels != IGNORE
    targets = one_hot(labels, 5).double()
    expected = torchvision_focal_loss(logits[kept], targets[kept], alpha, gamma, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    single = anchor_focal_loss(logits.float(), labels, alpha, gamma)
    torch.testing.assert_close(single, loss.float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_alpha_for_each_class(gamma):
    logits, labels = rows()
    alpha = [0.1, 0.25, 0.5, 0.75, 0.9]
    alone = [
        # class k apart: a row whose label is another class has no right answer in this column
        anchor_focal_loss(
            logits[:, k : k + 1],
            torch.where(labels == IGNORE, IGNORE, torch.where(labels == k, 0, BACKGROUND)),
            alpha[k],
            gamma,
        )
        for k in range(5)
    ]
    torch.testing.assert_close(anchor_focal_loss(logits, labels, alpha, gamma), sum(alone))


@pytest.mark.parametrize(("gamma", "alpha"), [(0, 0.75), (0.1, 0.75), (0.2, 0.75), (0.5, 0.5), (1, 0.25), (5, 0.25)])
def test_alpha_follows_gamma_as_in_table_1b(gamma, alpha):
    logits, labels = rows()
    assert best_alpha(gamma) == alpha
    assert anchor_focal_loss(logits, labels, gamma=gamma) == anchor_focal_loss(logits, labels, alpha, gamma)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.75])
def test_cross_entropy_equals_its_formula(alpha):
    logits, labels = rows()
    expected = 2 * written_out(logits, labels, 0.5, 0) if alpha is None else written_out(logits, labels, alpha, 0)
    assert float(anchor_cross_entropy(logits, labels, alpha)) == pytest.approx(expected, rel=1e-9)
    kept = labels != IGNORE
    if alpha is None:
        targets = one_hot(labels, 5)[kept].double()
        entropy = F.binary_cross_entropy_with_logits(logits[kept], targets, reduction="sum")
        torch.testing.assert_close(anchor_cross_entropy(logits, labels), entropy)


@pytest.mark.parametrize("gamma, shift", [(2, 1), (4, 0), (0.5, -1)])
def test_focal_star_equals_its_formula(gamma, shift):
    logits, labels = rows()
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        for k, x in enumerate(row if label != IGNORE else []):
            x_t, alpha_t = (x, 0.3) if k == label else (-x, 0.7)
            total += alpha_t * math.log(1 + math.exp(-(gamma * x_t + shift))) / gamma
    loss = anchor_focal_star_loss(logits, labels, 0.3, gamma, shift)
    assert float(loss) == pytest.approx(total, rel=1e-9)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: anchor_focal_star_loss(x, labels, 0.3, gamma, shift), logits)


def test_focal_star_of_gamma_one_and_no_shift_is_cross_entropy():
    logits, labels = rows()
    star = anchor_focal_star_loss(logits, labels, 0.75, gamma=1, shift=0)
    torch.testing.assert_close(star, anchor_cross_entropy(logits, labels, 0.75))


def test_gamma_zero_is_half_the_cross_entropy_at_alpha_half():
    logits, labels = rows()
    kept = labels != IGNORE
    entropy = F.binary_cross_entropy_with_logits(logits[kept], one_hot(labels, 5)[kept].double(), reduction="sum")
    torch.testing.assert_close(anchor_focal_loss(logits, labels, 0.5, 0), entropy / 2)


@pytest.mark.parametrize("label", [0, BACKGROUND])
def test_at_p_t_of_0_9_the_focal_loss_is_100_times_below_cross_entropy(label):
    logits = torch.tensor([[logit(0.9) if label == 0 else logit(0.1)]], dtype=torch.float64)
    loss, entropy = (float(anchor_focal_loss(logits, torch.tensor([label]), 0.25, gamma)) for gamma in (2, 0))
    assert entropy / loss == pytest.approx(100)
    assert entropy == pytest.approx((0.25 if label == 0 else 0.75) * -math.log(0.9))


def test_ignored_rows_count_nothing_and_get_no_gradient():
    logits, labels = rows()
    logits.requires_grad_()
    loss = anchor_focal_loss(logits, labels)
    kept = labels != IGNORE
    torch.testing.assert_close(loss, anchor_focal_loss(logits[kept], labels[kept]))
    loss.backward()
    assert 0 < int(kept.sum()) < len(kept)
    assert torch.equal((logits.grad != 0).any(dim=1), kept)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_gradient(gamma):
    logits, labels = rows(seed=1, count=12, classes=3)
    assert torch.autograd.gradcheck(lambda x: anchor_focal_loss(x, labels, 0.25, gamma), logits.requires_grad_())


@pytest.mark.parametrize("gamma", [0.01, 0.5, 0.99])
def test_a_gamma_below_one_has_a_gradient_where_p_t_is_one(gamma):
    # the derivative of (1 - p_t)^gamma by p_t is infinite there, that of the loss by the logit is 0
    logits = torch.tensor([[1000.0], [100.0], [40.0]], requires_grad=True)
    anchor_focal_loss(logits, torch.zeros(3, dtype=torch.int64), 0.25, gamma).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3, 1), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gamma", [0.5, 2, 4])
def test_focal_star_is_finite_at_saturated_logits(gamma, dtype):
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]], dtype=dtype, requires_grad=True)
    loss = anchor_focal_star_loss(logits, torch.tensor([0, 0, BACKGROUND, BACKGROUND]), 0.25, gamma, 0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.25 * 100 + 0.75 * 100, rel=1e-6)  # gamma |x| / gamma
    torch.testing.assert_close(logits.grad.squeeze(1), torch.tensor([0, -0.25, 0.75, 0], dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_saturated_logits_give_the_straight_line(gamma, dtype):
    # rows right, wrong, wrong, right: only a wrong answer costs, |x| each, with a slope of 1
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]], dtype=dtype, requires_grad=True)
    loss = anchor_focal_loss(logits, torch.tensor([0, 0, BACKGROUND, BACKGROUND]), 0.25, gamma)
    assert loss.dtype == torch.float32
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.25 * 100 + 0.75 * 100, rel=1e-6)
    torch.testing.assert_close(logits.grad.squeeze(1), torch.tensor([0, -0.25, 0.75, 0], dtype=dtype))


@pytest.mark.parametrize("count", [3, 10])
def test_sure_and_right_costs_nothing(count):
    # what these logits would cost as wrong answers, 30 and more each, leaves no rounding behind
    logits = (7.3 * torch.arange(count) + 30.1)[:, None]
    loss = float(anchor_focal_loss(logits, torch.zeros(count, dtype=torch.int64)))
    assert 0 <= loss < 1e-12


def test_no_rows_cost_nothing():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = anchor_focal_loss(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0


def losses_of_every_kind():
    return [
        anchor_cross_entropy,
        lambda logits, labels: anchor_cross_entropy(logits, labels, 0.75),
        *(partial(anchor_focal_loss, alpha=0.25, gamma=gamma) for gamma in (0, 0.5, 1.7, 2)),
        partial(anchor_focal_loss, alpha=[0.1, 0.25, 0.5, 0.75, 0.9]),
        anchor_focal_star_loss,
    ]


def value_and_gradient(loss, logits, labels, scale=1.0):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, labels)
    (scale * value).sum().backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize("loss", losses_of_every_kind())
@pytest.mark.parametrize("chunk", [1, 35, 42])  # of 300 logits: one row, 7 rows and 8 rows at once
def test_chunks_change_neither_loss_nor_gradient(monkeypatch, loss, chunk):
    logits, labels = rows()
    value, gradient = value_and_gradient(loss, logits, labels)
    monkeypatch.setattr(fused, "CPU_CHUNK", chunk)
    in_chunks, gradient_in_chunks = value_and_gradient(loss, logits, labels)
    torch.testing.assert_close(in_chunks, value, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient_in_chunks, gradient, rtol=1e-12, atol=0)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    logits, labels = rows(count=20_000, classes=80)
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(value_and_gradient(anchor_focal_loss, logits.float(), labels))
        with torch.inference_mode():
            assert anchor_focal_loss(logits.float(), labels) == results[0][0]
    assert logits.numel() > 2 * fused.LABEL_CHUNKS * fused.CPU_CHUNK
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("loss", losses_of_every_kind())
def test_the_gradient_passes_gradcheck_by_image_and_a_second_derivative_is_refused(loss):
    logits, labels = rows(count=12)
    logits = logits.view(2, 6, 5).requires_grad_()
    labels = labels.view(2, 6)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)
    value = loss(logits, labels)  # (2,)
    torch.testing.assert_close(value.detach(), torch.stack([loss(logits[i].detach(), labels[i]) for i in range(2)]))
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(value.sum(), logits, create_graph=True)


def test_the_gradient_follows_the_upstream_scale_at_each_backward():
    logits, labels = rows()
    expected = value_and_gradient(anchor_focal_loss, logits, labels)[1]
    for scale in (3.0, 65536.0, 0.0):
        scaled = value_and_gradient(anchor_focal_loss, logits, labels, scale)[1]
        torch.testing.assert_close(scaled, scale * expected)
    logits.requires_grad_()
    loss = anchor_focal_loss(logits, labels)
    (first,) = torch.autograd.grad(0 * loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    (third,) = torch.autograd.grad(loss, logits)
    for gradient, scale in ((first, 0), (second, 3), (third, 1)):  # each is a tensor of its own
        torch.testing.assert_close(gradient, scale * expected)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_without_a_gradient_to_give_none_is_computed(monkeypatch):
    logits, labels = rows()
    expected = anchor_focal_loss(logits.clone().requires_grad_(), labels).detach()
    monkeypatch.setattr(torch, "lerp", lambda *_: pytest.fail("the derivative was computed"))
    plain = anchor_focal_loss(logits, labels)
    with torch.no_grad():
        silent = anchor_focal_loss(logits.requires_grad_(), labels)
    assert not plain.requires_grad and not silent.requires_grad
    assert plain == silent == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loss_and_gradient_are_those_of_double_precision(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (12 * torch.randn(400, 80, generator=generator)).to(dtype)
    labels = torch.randint(IGNORE, 80, (400,), generator=generator)
    exact, slope = value_and_gradient(anchor_focal_loss, logits.double(), labels)
    value, gradient = value_and_gradient(anchor_focal_loss, logits, labels)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)
    tiny = float(torch.finfo(dtype).tiny)  # below it digits are lost
    torch.testing.assert_close(gradient.double(), slope, rtol=max(1e-5, torch.finfo(dtype).eps), atol=tiny)


def test_the_gradient_in_closed_form_is_autograds_of_the_papers_formula():
    logits, labels = rows()
    right = one_hot(labels, 5).bool()
    x = logits.clone().requires_grad_()
    alpha_t = torch.where(right, 0.25, 0.75) * (labels != IGNORE)[:, None]
    (alpha_t * focal(torch.where(right, x, -x), 1.7)).sum().backward()
    gradient = value_and_gradient(partial(anchor_focal_loss, alpha=0.25, gamma=1.7), logits, labels)[1]
    torch.testing.assert_close(gradient, x.grad, rtol=1e-9, atol=1e-14)


def test_a_loss_in_half_precision_keeps_the_gradient_that_its_scale_rescues():
    # 0.75 p^2 (2 (1 - p) softplus + p) is 2e-9 at p = 0.001, which is nothing in fp16
    logits = torch.full((1, 1), logit(0.001), dtype=torch.float16)
    gradient = value_and_gradient(partial(anchor_focal_loss, alpha=0.25), logits, torch.tensor([BACKGROUND]), 65536.0)[
        1
    ]
    assert float(gradient) == pytest.approx(65536 * 0.75 * 3e-9, rel=0.02)
