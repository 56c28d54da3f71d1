"""Metric losses against loops written from the papers' equations, and against pytorch-metric-learning."""

import math

import pytest
import torch
import torch.nn.functional as F

from reid_accel.models.metric_losses import (
    arcface_logits,
    center_loss,
    circle_loss,
    cosface_logits,
    cosine_logits,
    descended_centers,
    moved_centers,
    pairwise_distance,
    triplet_loss,
)

IDENTITIES = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 4])  # person 2 has one image: no positive
PAIR_LOSSES = {
    "triplet": lambda feature, identity, *more: triplet_loss(feature, identity, 0.3, *more),
    "soft triplet": lambda feature, identity, *more: triplet_loss(feature, identity, None, *more),
    "circle": lambda feature, identity, *more: circle_loss(feature, identity, 0.25, 8.0, *more),
}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def euclidean(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a, b):
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


def slow_pairs(feature, identity, measure, anchors=None):
    """For each anchor that has both: the measures of its positives and of its negatives."""
    rows, people = feature.double().tolist(), identity.tolist()
    for a in range(len(rows)) if anchors is None else anchors:
        positives = [measure(rows[a], rows[c]) for c in range(len(rows)) if c != a and people[c] == people[a]]
        negatives = [measure(rows[a], rows[c]) for c in range(len(rows)) if people[c] != people[a]]
        if positives and negatives:
            yield positives, negatives


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def slow_triplet(feature, identity, margin, anchors=None):
    """Hermans et al. 2017, eq. 5, and the soft margin of section 2."""
    pairs = slow_pairs(feature, identity, euclidean, anchors)
    excesses = [max(positives) - min(negatives) for positives, negatives in pairs]
    if margin is None:
        return mean(math.log(1 + math.exp(excess)) for excess in excesses)
    return mean(max(0.0, margin + excess) for excess in excesses)


def slow_circle(feature, identity, margin, scale, anchors=None):
    """Sun et al. 2020, eq. 6: log(1 + sum_n exp(..) sum_p exp(..))."""
    losses = []
    for positives, negatives in slow_pairs(feature, identity, cosine, anchors):
        of_positives = [-scale * max(0, 1 + margin - s) * (s - (1 - margin)) for s in positives]
        of_negatives = [scale * max(0, s + margin) * (s - margin) for s in negatives]
        losses.append(math.log(1 + sum(map(math.exp, of_negatives)) * sum(map(math.exp, of_positives))))
    return mean(losses)


SLOW = {
    "triplet": lambda *given: slow_triplet(*given[:2], 0.3, *given[2:]),
    "soft triplet": lambda *given: slow_triplet(*given[:2], None, *given[2:]),
    "circle": lambda *given: slow_circle(*given[:2], 0.25, 8.0, *given[2:]),
}


def test_distances_are_euclidean():
    one, other = random(5, 7), random(6, 7, seed=1)
    expected = [[euclidean(a, b) for b in other.double().tolist()] for a in one.double().tolist()]
    torch.testing.assert_close(pairwise_distance(one, other).double(), torch.tensor(expected).double())


def test_distance_of_equal_rows_is_zero_with_gradient_zero():
    feature = (100 * torch.ones(40, 3)).requires_grad_()  # more than 25 rows: cdist would turn to matrix products
    distance = pairwise_distance(feature, feature)
    distance.sum().backward()
    assert distance.max() == 0
    assert feature.grad.abs().max() == 0


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("seed", range(5))
def test_pair_losses_are_the_papers_equations(name, seed):
    feature = random(12, 6, seed=seed)
    expected = SLOW[name](feature, IDENTITIES)
    assert expected > 0.1
    assert PAIR_LOSSES[name](feature, IDENTITIES).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_another_image_with_equal_features_is_a_positive(name):
    """An anchor is told from its positives by its row, not by its distance of 0."""
    feature = random(2, 6).repeat_interleave(2, dim=0)
    identity = torch.tensor([0, 0, 1, 1])
    assert PAIR_LOSSES[name](feature, identity).item() == pytest.approx(SLOW[name](feature, identity), rel=1e-5)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("identity", [torch.zeros(6, dtype=torch.int64), torch.arange(6)], ids=["one", "all different"])
def test_without_valid_anchors_the_loss_is_zero_and_has_a_gradient(name, identity):
    feature = random(6, 4).requires_grad_()
    loss = PAIR_LOSSES[name](feature, identity)
    assert loss == 0
    loss.backward()
    assert torch.equal(feature.grad, torch.zeros(6, 4))


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("value", [0.0, 1.0, 300.0])
def test_gradients_are_finite_when_all_features_are_equal(name, value):
    feature = torch.full((12, 6), value, requires_grad=True)
    with torch.autograd.detect_anomaly(check_nan=True):
        loss = PAIR_LOSSES[name](feature, IDENTITIES)
        loss.backward()
    assert loss.isfinite()
    assert feature.grad.isfinite().all()


@pytest.mark.parametrize("margin", [0.3, 5.0, None])
def test_triplet_gradient_is_the_numerical_one(margin):
    feature = random(12, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: triplet_loss(f, IDENTITIES, margin), feature)
    assert torch.autograd.gradcheck(lambda f: pairwise_distance(f[:5], f[5:]), feature)


def test_circle_gradient_takes_the_weights_as_constants():
    feature = random(12, 6, dtype=torch.float64).requires_grad_()
    circle_loss(feature, IDENTITIES, 0.25, 8.0).backward()
    with torch.no_grad():
        weights = F.normalize(feature) @ F.normalize(feature).T

    def with_weights(f, constant):
        s, losses = F.normalize(f) @ F.normalize(f).T, []
        for a in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11):
            same = [c for c in range(12) if c != a and IDENTITIES[c] == IDENTITIES[a]]
            other = [c for c in range(12) if IDENTITIES[c] != IDENTITIES[a]]
            weight = weights if constant else s
            p = sum(torch.exp(-8 * (1.25 - weight[a, c]).relu() * (s[a, c] - 0.75)) for c in same)
            n = sum(torch.exp(8 * (weight[a, c] + 0.25).relu() * (s[a, c] - 0.25)) for c in other)
            losses.append(torch.log(1 + p * n))
        return torch.stack(losses).mean()

    expected = torch.autograd.grad(with_weights(feature, True), feature)[0]
    torch.testing.assert_close(feature.grad, expected)
    otherwise = torch.autograd.grad(with_weights(feature, False), feature)[0]
    assert (otherwise - expected).abs().max() > 1e-3


def everything(feature, weight):
    """Every loss of the module, by name."""
    identity, cosines = IDENTITIES[: len(feature)], cosine_logits(feature, weight)
    logits = {"arcface": arcface_logits(cosines, identity), "cosface": cosface_logits(cosines, identity)}
    return (
        {name: loss(feature, identity) for name, loss in PAIR_LOSSES.items()}
        | {name: F.cross_entropy(logit, identity) for name, logit in logits.items()}
        | {"center": center_loss(feature, identity, weight), "moved": moved_centers(weight, feature, identity).sum()}
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_features_are_counted_in_float32(dtype):
    feature, weight = random(12, 6, dtype=dtype).requires_grad_(), random(5, 6, seed=1, dtype=dtype)
    exact = everything(feature.detach().float(), weight.float())
    for name, loss in everything(feature, weight).items():
        assert loss.dtype == torch.float32, name
        assert loss == exact[name], name
    assert pairwise_distance(feature, weight).dtype == torch.float32
    sum(everything(feature, weight).values()).backward()
    assert feature.grad.dtype == dtype
    assert feature.grad.isfinite().all()


def test_autocast_changes_nothing():
    feature, weight = random(12, 6), random(5, 6, seed=1)
    exact = everything(feature, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert (feature @ weight.T).dtype == torch.bfloat16
        assert everything(feature, weight) == exact


def test_nothing_writes_into_its_arguments():
    feature, weight = random(12, 6), random(5, 6, seed=1)
    given = feature.clone(), weight.clone()
    everything(feature, weight)
    assert torch.equal(feature, given[0])
    assert torch.equal(weight, given[1])


def test_cosines_are_cosines():
    feature, weight = random(4, 6), random(5, 6, seed=1)
    expected = [[cosine(f, w) for w in weight.double().tolist()] for f in feature.double().tolist()]
    torch.testing.assert_close(cosine_logits(feature, weight).double(), torch.tensor(expected).double())


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5])
def test_arcface_enlarges_the_right_angle_and_cosface_lowers_the_right_cosine(margin):
    angles = torch.linspace(0.1, 3.1, 31, dtype=torch.float64)
    identity = torch.arange(31) % 3
    cosines = torch.stack([angles, angles.flip(0), angles.roll(7)], dim=1).cos()
    arcface, cosface = arcface_logits(cosines, identity, margin, 30.0), cosface_logits(cosines, identity, margin, 30.0)
    fell_back = 0
    for b, right in enumerate(identity.tolist()):
        for i, value in enumerate(cosines[b].tolist()):
            moved, lowered = value, value
            if i == right:
                angle = math.acos(value)
                moved, lowered = math.cos(angle + margin), value - margin
                if angle > math.pi - margin:
                    moved, fell_back = value - margin * math.sin(margin), fell_back + 1
            assert arcface[b, i].item() == pytest.approx(30 * moved, abs=1e-9)
            assert cosface[b, i].item() == pytest.approx(30 * lowered, abs=1e-9)
    assert (fell_back > 0) == (margin > 0)


def test_arcface_is_safe_where_the_angle_is_none_or_pi():
    for dtype, tolerance in ((torch.float32, 0.02), (torch.bfloat16, 0.02), (torch.float64, 1e-4)):
        cosines = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0 + 1e-6, 0.0]], dtype=dtype).requires_grad_()
        logits = arcface_logits(cosines, torch.zeros(3, dtype=torch.int64), 0.5, 30.0)
        logits.sum().backward()
        expected = torch.tensor([math.cos(0.5), -1 - 0.5 * math.sin(0.5), math.cos(0.5)], dtype=logits.dtype)
        torch.testing.assert_close(logits[:, 0].detach(), 30 * expected, atol=tolerance, rtol=0)
        assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("logits", [arcface_logits, cosface_logits])
def test_margin_gradients_are_the_numerical_ones(logits):
    feature, weight = random(12, 6, dtype=torch.float64), random(5, 6, seed=1, dtype=torch.float64)
    inputs = (feature.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda f, w: logits(cosine_logits(f, w), IDENTITIES), inputs)


def test_margin_gradients_stay_small_next_to_the_right_weights():
    """Near an angle of 0 the sine's gradient is large and the cosine's small; their product has to be harmless."""
    weight = random(1, 64)
    feature = (weight + 1e-4 * random(8, 64, seed=1)).requires_grad_()
    arcface_logits(cosine_logits(feature, weight), torch.zeros(8, dtype=torch.int64)).sum().backward()
    assert feature.grad.norm(dim=1).max() < 30 / weight.norm()


def test_center_loss_is_the_mean_squared_distance():
    feature, center = random(12, 6).requires_grad_(), random(5, 6, seed=1).requires_grad_()
    rows = zip(feature.double().tolist(), IDENTITIES.tolist(), strict=True)
    expected = mean(euclidean(row, center.double().tolist()[identity]) ** 2 for row, identity in rows)
    loss = center_loss(feature, IDENTITIES, center)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(feature.grad, 2 * (feature - center[IDENTITIES]).detach() / 12)
    assert center.grad is None


def test_centers_move_by_the_papers_rule():
    feature, center = random(12, 6, dtype=torch.float64), random(6, 6, seed=1, dtype=torch.float64)
    moved = moved_centers(center.requires_grad_(), feature, IDENTITIES, rate=0.3)
    assert not moved.requires_grad
    for j in range(6):
        rows = [i for i in range(12) if IDENTITIES[i] == j]
        for d in range(6):
            delta = sum(center[j, d].item() - feature[i, d].item() for i in rows) / (1 + len(rows))
            assert moved[j, d].item() == pytest.approx(center[j, d].item() - 0.3 * delta, rel=1e-12)
    assert torch.equal(moved[5], center[5]), "nobody's center stays"


def test_centers_descend_as_torchs_sgd_on_the_published_loss():
    feature, start = random(12, 6, dtype=torch.float64), random(6, 6, seed=1, dtype=torch.float64)
    center = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([center], lr=0.5)
    ((feature - center[IDENTITIES]) ** 2).sum(1).mean().backward()  # their loss over the batch, weight taken out again
    optimizer.step()
    torch.testing.assert_close(descended_centers(start, feature, IDENTITIES, 0.5, 12), center.detach())
    parts = descended_centers(start, feature[:6], IDENTITIES[:6], 0.5, 12)  # gradient accumulation
    away = center.detach() - start
    rest = descended_centers(start, feature[6:], IDENTITIES[6:], 0.5, 12) - start
    torch.testing.assert_close(parts - start + rest, away)


def test_four_of_64_images_move_a_center_by_a_sixteenth():
    feature, identity = torch.ones(64, 1), torch.arange(16).repeat_interleave(4)
    torch.testing.assert_close(
        descended_centers(torch.zeros(16, 1), feature, identity, 0.5, 64), 0.0625 * torch.ones(16, 1)
    )
    torch.testing.assert_close(moved_centers(torch.zeros(16, 1), feature, identity, 0.5), 0.4 * torch.ones(16, 1))


def test_centers_end_in_the_middle_of_their_features():
    feature, center = random(12, 6), random(5, 6, seed=1)
    for _ in range(200):
        center = moved_centers(center, feature, IDENTITIES)
    middle = torch.stack([feature[j == IDENTITIES].mean(0) for j in range(5)])
    torch.testing.assert_close(center, middle, atol=1e-4, rtol=0)


def loss_and_gradient(loss, feature):
    feature = feature.clone().requires_grad_()
    value = loss(feature)
    return value.detach(), torch.autograd.grad(value, feature)[0]


@pytest.mark.parametrize("seed", range(3))
def test_pair_losses_agree_with_pytorch_metric_learning(seed):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, miners, reducers

    plain = distances.LpDistance(normalize_embeddings=False)
    settings = {"distance": plain, "reducer": reducers.MeanReducer()}
    references = {
        "triplet": losses.TripletMarginLoss(margin=0.3, **settings),
        "soft triplet": losses.TripletMarginLoss(margin=0.0, smooth_loss=True, **settings),
        "circle": losses.CircleLoss(m=0.25, gamma=8.0),
    }
    mined = miners.BatchHardMiner(distance=plain)
    feature = random(12, 6, seed=seed, dtype=torch.float64)
    for name, reference in references.items():
        chosen = None if name == "circle" else mined(feature, IDENTITIES)
        ours = loss_and_gradient(lambda f, name=name: PAIR_LOSSES[name](f, IDENTITIES), feature)
        theirs = loss_and_gradient(lambda f, loss=reference, c=chosen: loss(f, IDENTITIES, c), feature)
        torch.testing.assert_close(ours, theirs)
        assert ours[0] > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_margin_losses_agree_with_pytorch_metric_learning(seed):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import losses

    references = {
        arcface_logits: losses.ArcFaceLoss(5, 6, margin=math.degrees(0.5), scale=30),
        cosface_logits: losses.CosFaceLoss(5, 6, margin=0.35, scale=30),
    }
    # features opposite to their own weights among them: beyond pi - margin
    weight = random(5, 6, seed=seed + 10, dtype=torch.float64)
    feature = random(12, 6, seed=seed, dtype=torch.float64) - torch.linspace(-4, 4, 12)[:, None] * weight[IDENTITIES]
    assert cosine_logits(feature, weight).gather(1, IDENTITIES[:, None]).min() < -math.cos(0.5)
    for logits, reference in references.items():
        reference.W.data = weight.T.clone()
        ours = loss_and_gradient(
            lambda f, logits=logits: F.cross_entropy(logits(cosine_logits(f, weight), IDENTITIES), IDENTITIES), feature
        )
        torch.testing.assert_close(ours, loss_and_gradient(lambda f, loss=reference: loss(f, IDENTITIES), feature))


def separation(train_identity, loss):
    """Loss before and after training a linear map, and the share of unseen rows next to a row of their own person."""
    # persons differ a little in 4 of 16 directions; the others vary more and mean nothing
    people = torch.arange(256) // 32
    signal = random(8, 4, seed=1)[people] + 0.2 * random(256, 4, seed=2)
    rows = torch.cat([signal, 2 * random(256, 12, seed=3)], dim=1)
    seen, unseen = torch.arange(256) % 2 == 0, torch.arange(256) % 2 == 1
    weight = (random(16, 8, seed=4) / 4).requires_grad_()
    optimizer, values = torch.optim.Adam([weight], lr=0.02), []
    for _ in range(150):
        optimizer.zero_grad()
        values.append(loss(rows[seen] @ weight, train_identity))
        values[-1].backward()
        optimizer.step()
    with torch.no_grad():
        nearest = pairwise_distance(rows[unseen] @ weight, rows[seen] @ weight).argmin(1)
    right = (people[seen][nearest] == people[unseen]).double().mean()
    return values[0].item(), values[-1].item(), right.item()


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_gradient_steps_separate_persons_unless_their_labels_are_shuffled(name):
    identity = torch.arange(128) // 16
    before, after, right = separation(identity, PAIR_LOSSES[name])
    assert after < 0.5 * before
    assert right > 0.9
    shuffled = identity[torch.randperm(128, generator=torch.Generator().manual_seed(6))]
    _, after_shuffled, right_shuffled = separation(shuffled, PAIR_LOSSES[name])
    assert after_shuffled > 1.3 * after
    assert right_shuffled < 0.6
