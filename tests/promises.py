"""What every method promises, as plain functions: `tests/test_contract.py` asks them of every registered method.

Each takes a `Subject` and raises AssertionError when the promise is broken; `tests/test_catalogue_bites.py` shows that
each one is.  Pictures are tiny and made on the spot.
"""

from __future__ import annotations

import copy
import dataclasses
import tracemalloc
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adlib.contract import Batch, DataError, Detector, Explains, NotFitted, Prediction, Reconstructs, Sentence, Stopped

SIZE = 64


@dataclass(frozen=True)
class Subject:
    """A method under test.  make: seed → a detector that has learned nothing.  needs: fewest normals it accepts."""

    make: Callable[[int], Detector]
    needs: int
    gives_map: bool
    known: dict[tuple[int, int], Detector] = dataclasses.field(default_factory=dict, repr=False)

    def fitted(self, pictures: Tensor, batch: int = 4) -> Detector:
        return self.make(0).fit(Pictures(pictures, batch))

    def ready(self, n: int, seed: int = 0) -> Detector:
        """A copy, to do with as one likes, of `fitted(parts(n, seed))`, which is fitted once for all promises."""
        if (n, seed) not in self.known:
            self.known[n, seed] = self.fitted(parts(n, seed))
        return copy.deepcopy(self.known[n, seed])


@dataclass(frozen=True)
class Pictures:
    """Images from memory: pixels (N, 3, H, W), handed out `batch` at a time."""

    pixels: Tensor
    batch: int = 4

    @property
    def size(self) -> int:
        return self.pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Batch]:
        for part in self.pixels.split(self.batch):
            yield Batch(part, ("good",) * len(part))


def parts(n: int, seed: int = 0, height: int = SIZE, width: int = SIZE) -> Tensor:
    """(n, 3, H, W): a bright disc on a striped ground, a little noise, light that varies from picture to picture."""
    chance = torch.Generator().manual_seed(seed)
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    ground = 0.4 + 0.1 * torch.sin(14 * x) * torch.cos(9 * y)
    part = torch.where(x * x + y * y < 0.4, 0.7 + 0.1 * x, ground) * torch.tensor([1.0, 0.9, 0.7])[:, None, None]
    light = 1 + 0.03 * torch.randn(n, 1, 1, 1, generator=chance)
    return (part * light + 0.02 * torch.randn(n, 3, height, width, generator=chance)).clamp(0, 1)


def damaged(pixels: Tensor) -> Tensor:
    """The same pictures, with a dark patch of a sixth of the side in the middle of each upper left quarter."""
    height, width = pixels.shape[-2:]
    broken = pixels.clone()
    broken[:, :, height // 4 : height * 5 // 12, width // 4 : width * 5 // 12] = 0.05
    return broken


# --- the catalogue ----------------------------------------------------------------------------------------------------


def check_a_second_fit_forgets_the_first(subject: Subject) -> None:
    first, second = parts(9, seed=1), parts(8, seed=2).flip(-1)
    twice, once = subject.fitted(first).fit(Pictures(second)), subject.fitted(second)
    _same_state(twice, once)
    _same(twice.score(first), once.score(first))


def check_a_restored_detector_scores_the_same_to_the_bit(subject: Subject) -> None:
    fitted = subject.ready(9)
    state = {name: tensor.clone() for name, tensor in fitted.state().items()}
    assert state, "nothing was learned"
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    tests = torch.cat([parts(3, seed=7), damaged(parts(2, seed=8))])
    _same(subject.make(1).restore(state).score(tests), fitted.score(tests))
    _same(subject.ready(6, seed=3).restore(state).score(tests), fitted.score(tests))
    _same_state(subject.make(0).restore(state), fitted)


def check_a_state_that_does_not_fit_is_refused(subject: Subject) -> None:
    state = subject.ready(6).state()
    for name, tensor in state.items():
        shorter = {key: value for key, value in state.items() if key != name}
        bent = {**state, name: tensor[None]}
        spoiled = {**state, name: torch.full_like(tensor, torch.nan)} if tensor.is_floating_point() else shorter
        for wrong in ({}, shorter, bent, spoiled):
            detector = subject.make(0)
            with pytest.raises(DataError):
                detector.restore(wrong)
            _not_fitted(detector)


def check_a_picture_scores_the_same_alone_and_in_any_batch(subject: Subject) -> None:
    detector = subject.ready(9)
    tests = torch.cat([parts(6, seed=7), damaged(parts(5, seed=8))])
    whole = detector.score(tests)
    for chosen in ([0], [10], [3, 9], [9, 3, 5], list(range(10, -1, -1)), [7] * 9):
        some = detector.score(tests[chosen])
        _same(some, _rows(whole, chosen))


def check_scoring_changes_nothing(subject: Subject) -> None:
    detector = subject.ready(9)
    before = {name: tensor.clone() for name, tensor in detector.state().items()}
    tests = torch.cat([parts(1, seed=7), damaged(parts(1, seed=8))])
    kept = tests.clone()
    first = detector.score(tests)
    for _ in range(2):
        _same(detector.score(tests[:1]), _rows(first, [0]))
    _same(detector.score(tests), first)
    assert torch.equal(tests, kept), "score wrote into the pixels it was given"
    for name, tensor in detector.state().items():
        assert torch.equal(tensor, before[name]), f"scoring changed {name}"


def check_larger_is_more_anomalous(subject: Subject) -> None:
    detector = subject.fitted(parts(12))
    clean = parts(6, seed=7)
    calm, alarmed = detector.score(clean), detector.score(damaged(clean))
    assert (alarmed.scores > calm.scores).all(), "a damaged picture scores lower than before"
    assert alarmed.scores.min() > calm.scores.max(), "a damaged picture scores lower than another clean one"
    if alarmed.maps is not None and calm.maps is not None:
        inside = damaged(torch.ones_like(clean))[:, 0].numpy() < 0.5
        for map, mask in zip(alarmed.maps, inside, strict=True):
            assert map[mask].mean() > map[~mask].mean(), "the map is not larger where the damage is"


def check_the_seed_decides_all_chance(subject: Subject) -> None:
    pictures = Pictures(parts(9))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = subject.make(5).fit(pictures)
    torch.manual_seed(2)  # whatever anyone else has drawn meanwhile
    np.random.seed(2)  # noqa: NPY002
    _same_state(one, subject.make(5).fit(pictures))
    _promised(subject, subject.make(6).fit(pictures).score(parts(2, seed=7)), parts(2))


def check_grey_and_odd_sized_pictures_are_taken(subject: Subject) -> None:
    for height, width in ((SIZE, SIZE), (65, 65), (61, 83)):
        grey = parts(6, height=height, width=width).mean(1, keepdim=True).expand(-1, 3, -1, -1)
        detector = subject.fitted(grey)
        tests = grey[:2]
        _promised(subject, detector.score(tests), tests)
    flat = torch.full((4, 3, SIZE, SIZE), 0.5)  # the same picture again and again, without any structure
    _promised(subject, subject.fitted(flat).score(damaged(flat)), flat)


def check_too_few_normals_are_refused_with_the_number(subject: Subject) -> None:
    for n in range(subject.needs):
        detector = subject.ready(6)
        with pytest.raises(DataError) as error:
            detector.fit(Pictures(parts(n)))
        assert str(subject.needs) in str(error.value), f"'{error.value}' does not say that {subject.needs} are needed"
        _not_fitted(detector)
    enough = parts(subject.needs)
    _promised(subject, subject.fitted(enough).score(parts(2, seed=7)), parts(2))


def check_stop_leaves_nothing_behind(subject: Subject) -> None:
    ticks: list[tuple[float, Sentence]] = []

    def listen(fraction: float, message: str, /, **numbers: Any) -> None:
        ticks.append((fraction, Sentence(message, numbers)))

    pictures = Pictures(parts(9))
    heard = subject.make(0).fit(pictures, listen)
    fractions = [fraction for fraction, _ in ticks]
    assert len(fractions) >= 3, "a tick between batches is promised"
    assert fractions == sorted(fractions), "progress goes backwards"
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert all(str(sentence) for _, sentence in ticks)
    for last in {0, 1, len(ticks) // 2, len(ticks) - 1}:
        detector = subject.ready(6, seed=3)
        left = iter(range(last))

        def stop(fraction: float, message: str, /, left: Iterator[int] = left, **numbers: Any) -> None:
            if next(left, None) is None:
                raise Stopped

        with pytest.raises(Stopped):
            detector.fit(pictures, stop)
        _not_fitted(detector)
        _same_state(detector.fit(pictures), heard)


def check_nothing_is_scored_before_a_fit(subject: Subject) -> None:
    _not_fitted(subject.make(0))


def check_scores_and_maps_are_as_promised(subject: Subject) -> None:
    detector = subject.ready(9)
    strange = torch.cat([parts(3, seed=7), torch.zeros(1, 3, SIZE, SIZE), torch.ones(1, 3, SIZE, SIZE)])
    for tests in (strange, strange[:1]):
        _promised(subject, detector.score(tests), tests)


def check_the_estimate_is_within_a_factor_of_two(subject: Subject) -> None:
    for n, size in ((3, 96), (24, SIZE)):
        pictures = Pictures(parts(n, height=size, width=size))
        told = subject.make(0).cost(n, size, size)
        subject.ready(6)  # what is made once and kept by all, such as a network, is made now
        detector = subject.make(0)
        peak = peak_bytes(lambda detector=detector, pictures=pictures: detector.fit(pictures))
        kept = sum(tensor.nbytes for tensor in detector.state().values())
        assert kept / 2 <= told.state_bytes <= kept * 2, f"state: told {told.state_bytes}, kept {kept}"
        assert peak / 2 <= told.fit_bytes <= peak * 2, f"n={n}, size={size}: told {told.fit_bytes}, took {peak}"
        assert told.operations > 0


def check_memory_does_not_grow_with_the_normals(subject: Subject) -> None:
    """A bounded sample may be held; the subject's settings bound it below what these pictures would fill."""
    few, many = Pictures(parts(64), batch=16), Pictures(parts(160), batch=16)
    subject.ready(6)
    first = peak_bytes(lambda: subject.make(0).fit(few))
    second = peak_bytes(lambda: subject.make(0).fit(many))
    assert second <= 1.15 * first, f"{first} bytes for {len(few)} normals, {second} for {len(many)}"


def check_settings_are_described(subject: Subject) -> None:
    detector: Any = subject.make(0)
    assert dataclasses.is_dataclass(detector)
    names = {field.name for field in dataclasses.fields(detector)}
    assert "seed" in names
    for field in dataclasses.fields(detector):
        if field.name in ("backbone", "seed"):
            continue
        about = field.metadata
        assert about.get("help", "").endswith("."), f"{field.name} has no help sentence"
        assert about["label"], f"{field.name} has no name for the screen"
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert about["low"] <= field.default <= about["high"], f"{field.name}: its default is out of bounds"
        if isinstance(field.default, str):
            assert field.default in about["choices"], f"{field.name}: its default is not among the choices"


def check_no_warning_is_given(subject: Subject) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        detector = subject.fitted(parts(6))
        detector.score(parts(2, seed=7))
        subject.make(0).restore(detector.state())
    assert not heard, f"a warning: {heard[0].message}"


def check_what_it_tells_besides_is_about_its_own_score(subject: Subject) -> None:
    """`explain` and `reconstruct` may be left out; a detector that offers them keeps to the contract."""
    normals = parts(6)
    detector = subject.ready(6)
    tests = torch.cat([parts(2, seed=7), damaged(parts(1, seed=8))])
    scores = detector.score(tests).scores
    if isinstance(detector, Explains):
        told = detector.explain(tests)
        assert len(told) == len(tests)
        assert told == [one for i in range(3) for one in detector.explain(tests[i : i + 1])], "it depends on the batch"
        for one, score in zip(told, scores, strict=True):
            for nearest in (one.picture, one.place):
                if nearest is not None:
                    assert 0 <= nearest.normal < len(normals), "it names a normal that there is not"
                    assert nearest.distance >= 0
                    ends = [*(nearest.here or ()), *(nearest.there or ())]
                    assert all(0 <= end <= 1 for end in ends), "a place lies outside the picture"
            assert not one.levels or sum(one.levels) == pytest.approx(score, rel=1e-5), "levels do not sum to the score"
    if isinstance(detector, Reconstructs):
        rebuilt = detector.reconstruct(tests)
        assert rebuilt.shape == tests.shape
        assert 0 <= rebuilt.min() <= rebuilt.max() <= 1
    assert np.array_equal(detector.score(tests).scores, scores), "telling changed what it says"
    for name in ("explain", "reconstruct"):
        if hasattr(detector, name):
            with pytest.raises(NotFitted):
                getattr(subject.make(0), name)(tests)


PROMISES = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


# --- comparing --------------------------------------------------------------------------------------------------------


def _promised(subject: Subject, prediction: Prediction, pixels: Tensor) -> None:
    """Prediction checks itself for finite values; here its shapes and types are held against the pixels."""
    n, _, height, width = pixels.shape
    assert prediction.scores.shape == (n,)
    assert prediction.scores.dtype == np.float32
    assert (prediction.maps is not None) == subject.gives_map
    if prediction.maps is not None:
        assert prediction.maps.shape == (n, height, width)
        assert prediction.maps.dtype == np.float32
    if prediction.embeddings is not None:
        assert prediction.embeddings.shape[0] == n
        assert prediction.embeddings.dtype == np.float32
    for values in (prediction.scores, prediction.maps, prediction.embeddings):
        assert values is None or np.isfinite(values).all()


def _rows(prediction: Prediction, chosen: list[int]) -> Prediction:
    columns = (prediction.scores, prediction.maps, prediction.embeddings)
    return Prediction(*(None if column is None else column[chosen] for column in columns))


def _same(one: Prediction, other: Prediction) -> None:
    for name in ("scores", "maps", "embeddings"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        assert a is None or np.array_equal(a, b), f"{name} differ by up to {np.abs(a - b).max()}"


def _same_state(one: Detector, other: Detector) -> None:
    a, b = one.state(), other.state()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), f"{name} differs"


def _not_fitted(detector: Detector) -> None:
    with pytest.raises(NotFitted):
        detector.score(parts(1))
    with pytest.raises(NotFitted):
        detector.state()


# --- counting bytes ---------------------------------------------------------------------------------------------------


class _Sight(weakref.ref):
    """A tensor that is looked at without being held."""

    __slots__ = ("address",)
    address: int


def _tensors(values: Any, found: list[Tensor] | None = None) -> list[Tensor]:
    """All tensors in what an operation takes or gives: torch's own way of finding them takes longer than small operations."""
    found = [] if found is None else found
    if isinstance(values, Tensor):
        found.append(values)
    elif isinstance(values, tuple | list):
        for value in values:
            _tensors(value, found)
    elif isinstance(values, dict):
        _tensors(tuple(values.values()), found)
    return found


def _storage(tensor: Tensor) -> tuple[int, int]:
    """A number of its own, and bytes.  Weights in the processor's own order do not say where they lie; they share nothing."""
    if tensor.is_mkldnn:
        return -id(tensor), tensor.numel() * tensor.element_size()
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


class Meter(TorchDispatchMode):
    """Bytes that torch and numpy hold at once, counted storage by storage: the same figure every time, unlike RSS.

    What is held before it starts does not count, nor what a single operation uses inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, list[int]] = {}  # address of a storage → its bytes, and how many tensors look at it
        self.sights: dict[int, _Sight] = {}  # not a set: it would compare tensors
        self.held = self.peak = self.before = 0

    def __enter__(self) -> Any:
        tracemalloc.start()
        self.before = tracemalloc.get_traced_memory()[0]
        return super().__enter__()

    def __exit__(self, *problem: Any) -> None:
        self._look()
        super().__exit__(*problem)
        tracemalloc.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        answers = _tensors(made)
        if answers:
            tensors = _tensors((args, kwargs))
            given = {_storage(t)[0] for t in tensors}
            for tensor in answers:
                if not any(tensor is t for t in tensors):  # not the answer of an `add_`
                    address, size = _storage(tensor)
                    if size and (address in self.live or address not in given):
                        self._saw(tensor, address, size)
        self._look()
        return made

    def _saw(self, tensor: Tensor, address: int, size: int) -> None:
        if address not in self.live:
            self.live[address] = [size, 0]
            self.held += size
        self.live[address][1] += 1
        sight = _Sight(tensor, self._gone)
        sight.address = address
        self.sights[id(sight)] = sight

    def _gone(self, sight: _Sight) -> None:
        self.sights.pop(id(sight), None)
        self.live[sight.address][1] -= 1
        if not self.live[sight.address][1]:
            self.held -= self.live.pop(sight.address)[0]

    def _look(self) -> None:
        self.peak = max(self.peak, self.held + tracemalloc.get_traced_memory()[1] - self.before)
        tracemalloc.reset_peak()


def peak_bytes(work: Callable[[], Any]) -> int:
    import torch._dynamo  # noqa: F401  the first dispatch mode of a process imports it, and that must not be counted

    with Meter() as meter:
        work()
    return meter.peak
