import math
from typing import NamedTuple

import pytest
import torch

from reid_accel.config.schema import LossConfig
from reid_accel.models.heads import ArcFaceClassifier, CosFaceClassifier
from reid_accel.models.losses import LossTerms, attribute_loss, balancing_weights, identity_loss, loss_terms, total
from reid_accel.models.metric_losses import center_loss, circle_loss, triplet_loss
from reid_accel.models.outputs import Outputs


def slow_cross_entropy(logits: torch.Tensor, labels: list[int], smoothing: float = 0.0) -> float:
    """-sum_k q_k log softmax(z)_k with q = (1 - s) one-hot + s / K, one row at a time; -1 is passed over."""
    losses = []
    for row, label in zip(logits.double().tolist(), labels, strict=True):
        if label == -1:
            continue
        log_total = math.log(sum(math.exp(value) for value in row))
        target = [smoothing / len(row) + (1 - smoothing) * (k == label) for k in range(len(row))]
        losses.append(-sum(q * (value - log_total) for q, value in zip(target, row, strict=True)))
    return sum(losses) / len(losses) if losses else 0.0


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("parts", [1, 3])
def test_identity_loss_is_the_mean_of_the_parts_cross_entropies(smoothing: float, parts: int) -> None:
    logits, labels = random(7, parts, 11), [0, 3, 10, 3, 1, 1, 5]
    expected = sum(slow_cross_entropy(logits[:, part], labels, smoothing) for part in range(parts)) / parts
    loss = identity_loss(logits, torch.tensor(labels), LossConfig(label_smoothing=smoothing))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_unknown_attributes_contribute_nothing() -> None:
    logits = (random(4, 2).requires_grad_(), random(4, 3).requires_grad_(), random(4, 4).requires_grad_())
    labels = torch.tensor([[0, 2, -1], [-1, 1, -1], [1, -1, -1], [1, 0, -1]])
    expected = [slow_cross_entropy(logit, labels[:, a].tolist()) for a, logit in enumerate(logits)]
    loss = attribute_loss(logits, labels, "sum")
    assert loss.item() == pytest.approx(sum(expected), rel=1e-5)
    assert attribute_loss(logits, labels, "mean").item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    loss.backward()
    assert logits[0].grad is not None
    assert logits[2].grad is not None
    assert logits[0].grad[1].abs().sum() == 0
    assert logits[0].grad[0].abs().sum() > 0
    assert logits[2].grad.abs().sum() == 0


def test_class_weights_make_the_mean_over_known_images_a_weighted_one() -> None:
    logits, labels = (random(4, 2), random(4, 3)), torch.tensor([[0, 2], [-1, 1], [1, -1], [1, 0]])
    weights = (torch.tensor([0.2, 3.0]), torch.tensor([1.0, 0.5, 0.0]))
    expected = []
    for a, (logit, weight) in enumerate(zip(logits, weights, strict=True)):
        known = [b for b in range(4) if labels[b, a] != -1]
        losses = [slow_cross_entropy(logit[b : b + 1], [int(labels[b, a])]) for b in known]
        shares = [weight[labels[b, a]].item() for b in known]
        expected.append(sum(w * loss for w, loss in zip(shares, losses, strict=True)) / sum(shares))
        torchs = torch.nn.functional.cross_entropy(logit, labels[:, a], weight=weight, ignore_index=-1)
        assert expected[a] == pytest.approx(torchs.item(), rel=1e-5)
    assert attribute_loss(logits, labels, "sum", weights).item() == pytest.approx(sum(expected), rel=1e-5)
    assert attribute_loss(logits, labels, "mean", weights).item() == pytest.approx(sum(expected) / 2, rel=1e-5)
    ones = [torch.ones(2), torch.ones(3)]
    assert attribute_loss(logits, labels, "sum", ones) == attribute_loss(logits, labels, "sum")
    assert abs(sum(expected) - attribute_loss(logits, labels, "sum").item()) > 0.01


def test_images_of_no_weight_give_a_loss_of_zero() -> None:
    logit = random(3, 2).requires_grad_()
    loss = attribute_loss([logit], torch.tensor([[0], [-1], [0]]), "mean", [torch.tensor([0.0, 1.0])])
    loss.backward()
    assert loss == 0
    assert logit.grad is not None
    assert logit.grad.abs().max() == 0


@pytest.mark.parametrize("counts", [[90, 10], [1, 7, 0, 400], [5, 5, 5], [0, 3]])
def test_balancing_weights_give_every_value_the_same_say_and_keep_the_loss_its_size(counts: list[int]) -> None:
    weights = balancing_weights(counts).tolist()
    says = [count * weight for count, weight in zip(counts, weights, strict=True) if count]
    assert says == pytest.approx([says[0]] * len(says), rel=1e-6)
    assert sum(says) == pytest.approx(sum(counts), rel=1e-6)
    assert all(weight == 0 for count, weight in zip(counts, weights, strict=True) if not count)


def test_balancing_weights_of_nothing_are_zero() -> None:
    assert balancing_weights([0, 0]).tolist() == [0, 0]


def outputs(groups: int) -> Outputs:
    logits = tuple(random(4, 2 + g) for g in range(groups))
    return Outputs(random(4, 8), random(4, 6), random(4, 1, 5), logits)


class Labels(NamedTuple):
    """What losses need of a batch."""

    identity_B: torch.Tensor
    attributes_BA: torch.Tensor


def test_stripes_losses_are_added_as_in_their_papers() -> None:
    logits, identity = random(4, 6, 7), torch.tensor([0, 3, 6, 2])
    parts = [identity_loss(logits[:, part : part + 1], identity, LossConfig(label_smoothing=0.1)) for part in range(6)]
    mean, added = (
        identity_loss(logits, identity, LossConfig(label_smoothing=0.1, stripe_reduction=reduction))  # type: ignore[arg-type]
        for reduction in ("mean", "sum")
    )
    torch.testing.assert_close(added, torch.stack(parts).sum())
    torch.testing.assert_close(mean, torch.stack(parts).mean())


def terms_of(groups: int, labels: Labels, center_IE: torch.Tensor | None = None, **weights: float) -> LossTerms:
    return loss_terms(outputs(groups), labels, LossConfig(**weights), center_IE=center_IE)  # type: ignore[arg-type]


def test_terms_are_weighted_and_add_up_to_the_loss() -> None:
    labels = Labels(torch.tensor([0, 1, 2, 3]), torch.tensor([[0, 1]] * 4))
    plain, weighted = terms_of(2, labels), terms_of(2, labels, identity=0.5, attributes=3.0)
    assert list(weighted) == ["identity", "attributes"]
    assert weighted["identity"].item() == pytest.approx(0.5 * plain["identity"].item(), rel=1e-6)
    assert weighted["attributes"].item() == pytest.approx(3 * plain["attributes"].item(), rel=1e-6)
    assert total(weighted).item() == pytest.approx(sum(term.item() for term in weighted.values()), rel=1e-6)


def test_without_attributes_there_is_the_identity_alone() -> None:
    labels = Labels(torch.tensor([0, 1, 2, 3]), torch.empty((4, 0), dtype=torch.int64))
    terms = terms_of(0, labels)
    assert list(terms) == ["identity"]
    assert total(terms) == terms["identity"]


def test_an_identity_loss_of_weight_0_still_reaches_its_classifier() -> None:
    """Data parallelism waits for a gradient of every parameter."""
    out = outputs(0)
    out.identity_logits_BPI.requires_grad_()
    labels = Labels(torch.tensor([0, 0, 1, 1]), torch.empty((4, 0), dtype=torch.int64))
    total(loss_terms(out, labels, LossConfig(identity=0, triplet=1.0))).backward()
    assert out.identity_logits_BPI.grad is not None
    assert out.identity_logits_BPI.grad.abs().max() == 0


def test_losses_on_pairs_are_terms_of_their_own_and_see_the_pair_features() -> None:
    out, identity = outputs(0), torch.tensor([0, 0, 1, 1])
    labels = Labels(identity, torch.empty((4, 0), dtype=torch.int64))
    center_IE = random(2, 6)
    terms = terms_of(0, labels, center_IE, identity=0.5, triplet=2.0, circle=0.1, center=0.01, circle_scale=8)
    by_hand = {
        "triplet": 2 * triplet_loss(out.metric_feature_BE, identity, 0.3),
        "circle": 0.1 * circle_loss(out.metric_feature_BE, identity, 0.25, 8),
        "center": 0.01 * center_loss(out.metric_feature_BE, identity, center_IE),
    }
    assert {name: terms[name].item() for name in by_hand} == {
        name: pytest.approx(value.item(), rel=1e-6) for name, value in by_hand.items()
    }
    soft = terms_of(0, labels, triplet=1.0, triplet_margin=0)["triplet"]
    assert soft.item() == pytest.approx(triplet_loss(out.metric_feature_BE, identity, None).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "uses"), [({}, False), ({"triplet": 1}, True), ({"circle": 1}, True), ({"center": 1}, True)]
)
def test_settings_know_whether_losses_compare_images(weights: dict[str, float], uses: bool) -> None:
    assert LossConfig(**weights).uses_pairs == uses  # type: ignore[arg-type]


@pytest.mark.parametrize("classifier", [ArcFaceClassifier, CosFaceClassifier])
def test_margin_classifiers_make_the_right_answer_harder(
    classifier: type[ArcFaceClassifier] | type[CosFaceClassifier],
) -> None:
    margin = classifier(1, 3, 5, bias=False).with_margin
    cosine_BI, identity = random(4, 5).tanh(), torch.tensor([0, 1, 2, 3])
    config = LossConfig(classifier_margin=0.3, classifier_scale=10)
    plain = torch.nn.functional.cross_entropy(10 * cosine_BI, identity)
    cosine_BPI = cosine_BI[:, None]
    none = identity_loss(cosine_BPI, identity, LossConfig(classifier_margin=0, classifier_scale=10), margin)
    assert none.item() == pytest.approx(plain.item(), rel=1e-5)
    assert identity_loss(cosine_BPI, identity, config, margin) > plain + 0.1
