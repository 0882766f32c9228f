"""A search through a shadow of the bank finds what a search of all rows finds, to the bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adlib.methods import _neighbours
from adlib.methods._neighbours import Bank, Shadow, seen_by, telling_axes

KINDS = ["flat", "telling", "clusters", "tail", "far", "outlier", "offset", "duplicates", "constant", "line", "thin"]


def world(kind: str, m: int = 2500, n: int = 120, d: int = 70) -> tuple[Tensor, Tensor]:
    """(M, D) rows and (Q, D) queries, the last ten queries being rows."""
    chance = torch.Generator().manual_seed(KINDS.index(kind))
    x = torch.randn(m + n, d, generator=chance)
    if kind != "flat":
        x *= torch.arange(1, d + 1) ** -1.2  # a few directions tell most, as in real features
    if kind == "clusters":
        x = 3 * x[torch.randint(0, 20, (m + n,), generator=chance)] + 0.1 * torch.randn(m + n, d, generator=chance)
    if kind == "tail":  # what tells queries and rows apart lies where the rows do not vary
        x[m:, -1] += 5
    if kind == "far":
        x[m:] += 1000
    if kind == "outlier":
        x[17] *= 1e4
    if kind == "offset":
        x = 300 + 0.1 * x
    if kind == "duplicates":
        x[:m] = x[torch.randint(0, 50, (m,), generator=chance)]
    if kind == "constant":
        x[:m] = 1.0
    if kind == "line":
        x[:, 1:] = 0
    if kind == "thin":  # the axes see so nearly all of a row that the rest is lost in rounding, but not of a query
        x[:, 21:] = 0
        x = F.normalize(x)
        x[:m, -1], x[m:, -1] = 2e-4 * torch.randn(m, generator=chance).sign(), 1
        x = x @ torch.linalg.qr(torch.randn(d, d, generator=chance)).Q
    rows, queries = x[:m].clone(), x[m:].clone()
    queries[-10:] = rows[:10]
    return rows, queries


def axes_of(rows: Tensor, which: str) -> Tensor | None:
    """Directions along which the rows vary most, those along which they vary least, or any."""
    centred = (rows - rows.mean(0)).double()
    along = torch.linalg.eigh(centred.T @ centred).eigenvectors
    if which == "any":
        along = torch.linalg.qr(torch.randn(along.shape, generator=torch.Generator().manual_seed(0)).double()).Q
    p = min(21, rows.shape[1])
    return (1 - 2e-7) * (along[:, -p:] if which == "most" else along[:, :p]).float()


def brute(rows: Tensor, queries: Tensor, k: int) -> Tensor:
    """(Q, k): every distance measured one by one in float32, as the bank measures its candidates."""
    return torch.stack([torch.linalg.vector_norm(rows - q, dim=1).sort().values[:k] for q in queries])


@pytest.fixture
def use_axes(monkeypatch):
    return lambda which: monkeypatch.setattr(_neighbours, "telling_axes", lambda rows, centre: axes_of(rows, which))


@pytest.mark.parametrize("which", ["most", "least", "any", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_nearer_than_its_shadow_tells(kind, which):
    rows, queries = world(kind)
    centre = rows.mean(0)
    for dtype in (torch.float32, torch.bfloat16):
        shadow = Shadow(rows, centre, dtype, None if which == "none" else axes_of(rows, which))
        asked, wrong = shadow.asked(queries - centre)
        told = shadow.table.double() @ asked.double() - 2 * wrong.double()
        true = torch.cdist(rows.double(), queries.double()).square() / 2
        assert (told <= true).all()


def test_a_shadow_of_rows_that_vary_along_its_axes_tells_nearly_all():
    rows, queries = world("telling")
    centre = rows.mean(0)
    shadow = Shadow(rows, centre, torch.float32, axes_of(rows, "most"))
    asked, _ = shadow.asked(queries - centre)
    true = torch.cdist(rows, queries).square() / 2
    assert (shadow.table @ asked).sum() > 0.9 * true.sum()


@pytest.mark.parametrize("which", ["most", "least", "any"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_search_by_any_axes_measures_the_nearest_to_the_bit(kind, which, use_axes):
    rows, queries = world(kind)
    use_axes(which)
    bank, true = Bank(rows, coarse=False), brute(rows, queries, 4)
    for k in (1, 4):
        distances, found = bank.search(queries, k)
        assert torch.equal(distances, true[:, :k])
        assert torch.equal(torch.linalg.vector_norm(rows[found] - queries[:, None], dim=2), distances)
        assert (distances[-10:, 0] == 0).all()


@pytest.mark.parametrize(("m", "d", "k"), [(1, 1, 1), (5, 1, 5), (31, 2, 3), (33, 40, 1), (65, 40, 5), (2100, 1, 2)])
def test_small_banks_are_searched_by_axes_too(m, d, k, use_axes):
    chance = torch.Generator().manual_seed(m)
    rows, queries = torch.randn(m, d, generator=chance), torch.randn(50, d, generator=chance)
    use_axes("most")
    assert torch.equal(Bank(rows, coarse=False).search(queries, k)[0], brute(rows, queries, k))


def test_a_search_by_axes_does_not_depend_on_the_batch_or_the_parts(use_axes, monkeypatch):
    rows, queries = world("telling")
    use_axes("most")
    bank = Bank(rows, coarse=False)
    distances, found = bank.search(queries, 3)
    for i in (0, 77, 119):
        alone = bank.search(queries[i : i + 1], 3)
        assert torch.equal(alone[0], distances[i : i + 1])
        assert torch.equal(alone[1], found[i : i + 1])
    monkeypatch.setattr(_neighbours, "ROWS_AT_ONCE", 512)
    monkeypatch.setattr(_neighbours, "QUERIES_AT_ONCE", 64)
    in_parts = Bank(rows, coarse=False).search(queries, 3)
    assert torch.equal(in_parts[0], distances)
    assert torch.equal(in_parts[1], found)


@pytest.mark.parametrize("coarse", [False, True])
def test_ordinary_queries_are_never_compared_with_all_rows_in_full(coarse, use_axes, monkeypatch):
    rows, queries = world("telling")
    use_axes("most")
    bank = Bank(rows, coarse)
    monkeypatch.setattr(bank, "_search", lambda *_: pytest.fail("compared in full"))
    assert torch.equal(bank.search(queries, 1)[0], brute(rows, queries, 1))


@pytest.mark.parametrize("coarse", [False, True])
def test_of_many_equal_rows_one_is_enough(coarse, use_axes, monkeypatch):
    rows, _ = world("duplicates")
    use_axes("most")
    bank = Bank(rows, coarse)
    monkeypatch.setattr(bank, "_search", lambda *_: pytest.fail("compared in full"))
    assert (bank.search(rows, 1)[0] == 0).all()


def test_axes_are_chosen_where_few_of_them_tell_most_and_only_there():
    rows, _ = world("telling", m=6000, d=128)
    axes = telling_axes(rows, rows.mean(0))
    assert axes is not None
    assert axes.shape[1] < 64
    centred = (rows - rows.mean(0)).double()
    best = torch.linalg.svdvals(centred)[: axes.shape[1]].square().sum()
    assert (centred @ axes.double()).square().sum() > 0.99 * best
    for kind, m, d in [("flat", 6000, 128), ("telling", 500, 128), ("telling", 6000, 40), ("constant", 6000, 128)]:
        other, _ = world(kind, m=m, d=d)
        assert telling_axes(other, other.mean(0)) is None
    assert telling_axes(torch.full((6000, 128), 1e30) * rows, rows.mean(0)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_axes_lengthen_nothing(kind, monkeypatch):
    monkeypatch.setattr(_neighbours, "MEASURING", 0)  # whatever is left to measure, axes pay
    rows, _ = world(kind, m=2500, d=70)
    axes = telling_axes(rows, rows.mean(0))
    assert axes is not None
    assert torch.linalg.svdvals(axes.double())[0] <= 1


def test_a_shadow_keeps_lengths():
    rows, _ = world("telling")
    seen = seen_by(axes_of(rows, "most"), rows)
    assert torch.allclose(seen.norm(dim=1), rows.norm(dim=1), rtol=1e-4)
