"""CosFace and ArcFace against the formulas, one image at a time; and the sampling of partial FC."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.train.running import read_state

from faceum.errors import ModelError
from faceum.train import RunConfig, train
from faceum.train import partial_fc as module
from faceum.train.optim import build_centre_optimizer, clip_gradients
from faceum.train.partial_fc import MarginConfig, PartialFC, share_of_rank


def slow(kind: str, embedding: torch.Tensor, person: int, weight: torch.Tensor, s: float, m: float) -> float:
    """The loss of one image as the papers write it, in double precision."""
    cosines = [float(F.cosine_similarity(embedding.double(), row.double(), dim=0)) for row in weight]
    own = math.cos(math.acos(cosines[person]) + m) if kind == "arcface" else cosines[person] - m
    others = sum(math.exp(s * c) for n, c in enumerate(cosines) if n != person)
    return -math.log(math.exp(s * own) / (math.exp(s * own) + others))


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_loss_is_the_papers(kind: str) -> None:
    torch.manual_seed(0)
    partial_fc = PartialFC(MarginConfig(kind=kind, scale=16, margin=0.3), num_identities=7, outputs=12)
    embedding, person = torch.randn(5, 12) * 4, torch.tensor([0, 6, 3, 3, 1])
    expected = [
        slow(kind, e, int(p), partial_fc.weight.detach(), 16, 0.3)
        for e, p in zip(embedding, person, strict=True)
    ]
    assert partial_fc(embedding, person).item() == pytest.approx(sum(expected) / 5, rel=1e-4)


def test_arcface_stays_monotonic_beyond_the_half_circle() -> None:
    partial_fc = PartialFC(MarginConfig(kind="arcface", scale=8, margin=0.5), num_identities=2, outputs=2)
    with torch.no_grad():
        partial_fc.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    angles = torch.linspace(0.1, math.pi - 0.01, 60)
    person = torch.zeros(1, dtype=torch.long)
    logits = []
    for angle in angles:
        embedding = torch.stack([angle.cos(), -angle.sin()])[None]
        loss = partial_fc(embedding, person).double()
        logits.append(-torch.log(torch.expm1(loss)) + 8 * -angle.sin())  # undo the softmax of two
    assert (torch.stack(logits).diff() < 0).all()


def test_images_and_centres_learn() -> None:
    torch.manual_seed(0)
    partial_fc = PartialFC(MarginConfig(), num_identities=5, outputs=8)
    embedding = torch.randn(10, 8, requires_grad=True)
    person = torch.arange(10) % 5
    optimizer = torch.optim.Adam([embedding, partial_fc.weight], lr=0.1)
    first = partial_fc(embedding, person).item()
    for _ in range(80):
        optimizer.zero_grad()
        partial_fc(embedding, person).backward()
        optimizer.step()
    assert partial_fc(embedding, person).item() < 0.05 * first
    assert (F.normalize(embedding) @ F.normalize(partial_fc.weight).T).argmax(1).tolist() == person.tolist()


def test_sample_contains_labels_and_depends_on_step() -> None:
    partial_fc = PartialFC(MarginConfig(sample=0.25), num_identities=40, outputs=4)
    own = torch.tensor([3, 17, 3])
    looks = [partial_fc._select_rows(own, step) for step in range(4)]
    assert all({3, 17} <= set(rows.tolist()) and len(rows) == 10 for rows in looks)
    assert len({tuple(rows.tolist()) for rows in looks}) > 1
    torch.testing.assert_close(partial_fc._select_rows(own, 2), looks[2])
    assert len(partial_fc._select_rows(torch.arange(20), 0)) == 20, "the expected are never left out"


def test_partial_fc_changes_only_sampled_centres() -> None:
    torch.manual_seed(1)
    partial_fc = PartialFC(MarginConfig(sample=0.5, scale=8), num_identities=8, outputs=6)
    embedding, person = torch.randn(3, 6), torch.tensor([1, 4, 4])
    rows = partial_fc._select_rows(person, 0)
    loss = partial_fc(embedding, person, 0)
    loss.backward()
    moved = partial_fc.weight.grad.to_dense().abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == rows.tolist()
    place = {int(row): n for n, row in enumerate(rows)}
    expected = [
        slow("cosface", e, place[int(p)], partial_fc.weight.detach()[rows], 8, 0.4)
        for e, p in zip(embedding, person, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-4)


def test_sparse_gradients_are_the_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accumulated batches a step: gradients, norm, clipping and steps, against a dense gradient."""
    config = MarginConfig(sample=0.3, scale=8)
    sparse, dense = (PartialFC(config, num_identities=30, outputs=6) for _ in range(2))
    optimizer = build_centre_optimizer(sparse, lr=0.1, weight_decay=0.05)
    first, second = torch.zeros(30, 6), torch.zeros(30, 6)
    for step in range(3):
        torch.manual_seed(step)
        batches = [(torch.randn(4, 6), torch.randint(30, (4,))) for _ in range(2)]
        used = torch.cat([sparse._select_rows(person, step) for _, person in batches]).unique()
        for one, is_sparse in ((sparse, True), (dense, False)):
            monkeypatch.setattr(PartialFC, "sparse", is_sparse)
            one.zero_grad()
            for embedding, person in batches:
                one(embedding, person, step).backward()
            one.correct_gradients()
        assert sparse.weight.grad.indices().flatten().tolist() == used.tolist()
        norms = [clip_gradients([], [module.weight], 0.5) for module in (sparse, dense)]
        torch.testing.assert_close(*norms)
        assert norms[0] > 0.5
        gradient = dense.weight.grad
        torch.testing.assert_close(sparse.weight.grad.to_dense(), gradient)
        optimizer.step()
        # Adam with its bias correction, on the used rows alone.
        first[used] = 0.9 * first[used] + 0.1 * gradient[used]
        second[used] = 0.98 * second[used] + 0.02 * gradient[used].square()
        size = 0.1 * (1 - 0.98 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
        with torch.no_grad():
            dense.weight[used] -= size * first[used] / (second[used].sqrt() + 1e-8)
        torch.testing.assert_close(sparse.weight, dense.weight)


@pytest.mark.parametrize("sample", [1.0, 0.5])
def test_nobody_known_costs_nothing(sample: float) -> None:
    partial_fc = PartialFC(MarginConfig(sample=sample), num_identities=3, outputs=4)
    loss = partial_fc(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0
    loss.backward()
    assert not partial_fc.weight.grad.to_dense().any()


def test_one_rank_has_everybody() -> None:
    assert share_of_rank(7) == (0, 7)


@pytest.mark.parametrize("wrong", [{"kind": "softface"}, {"sample": 0.0}, {"sample": 1.5}])
def test_wrong_settings_give_sentences(wrong: dict) -> None:
    with pytest.raises(ModelError):
        MarginConfig(**wrong)


@pytest.mark.parametrize(("count", "outputs"), [(1, 3), (15, 5), (16, 1), (37, 7), (64, 16), (100, 3)])
def test_a_rank_draws_its_share_of_one_sequence(
    count: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    whole = torch.randn(count, outputs, generator=torch.Generator().manual_seed(5)) * 0.01
    for start, end in ((0, count), (0, count // 2), (count // 3, count), (count // 2, count // 2)):
        assert torch.equal(module._draw_rows(count, outputs, 5, (start, end)), whole[start:end])


def test_a_rank_holds_little_but_its_centres() -> None:
    held: list[int] = []
    randn = torch.randn

    def counting(*size: int, **more: object) -> torch.Tensor:
        held.append(size[0])
        return randn(*size, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", counting)
        module._draw_rows(40_000, 8, 0, (0, 20_000))
    assert sum(held) == 40_000 and max(held) < 2 * module.BLOCK


def test_sampled_run_resumes(drawn_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    """The moments of a sparse optimizer are saved, too."""
    margin = MarginConfig(scale=16, margin=0.1, sample=0.5)
    whole = train(drawn_run(margin=margin, out=str(tmp_path / "whole"))).state_dict()
    run = drawn_run(margin=margin)
    train(run)
    shutil.rmtree(Path(run.out, "checkpoints", "step-00000008"))
    resumed = train(run).state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(value, resumed[name])
    states = [read_state(Path(out)) for out in (tmp_path / "whole", run.out)]
    assert all(state["partial_fc.exp_avg"].any() for state in states)
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], msg=name)
    assert states[0]["partial_fc_step"] == 8
