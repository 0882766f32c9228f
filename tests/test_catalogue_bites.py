"""The catalogue of promises bites: a faulty detector of each kind is caught by the promise that is meant for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adlib.contract import Cost, DataError, Explanation, Images, Nearest, NotFitted, Prediction, Tick, setting, silent
from promises import PROMISES, Subject


@dataclass
class Honest:
    """Distance to the mean normal, pixel by pixel: keeps every promise, so that each fault below stands alone."""

    gain: float = setting(1.0, low=0.1, high=10.0, label="Gain", help="Factor of the score.")
    seed: int = 0

    def fit(self, normals: Images, tick: Tick = silent) -> Any:
        vars(self).pop("mean_", None)
        if len(normals) < 2:
            raise DataError("At least {needed} normal pictures are needed, got {n}.", needed=2, n=len(normals))
        self._learn(normals, tick)
        return self

    def _learn(self, normals: Images, tick: Tick) -> None:
        total = 0.0
        for i, batch in enumerate(normals, start=1):
            total = total + batch.pixels.sum(0)
            tick(i / len(normals), "read {i}", i=i)
        self.mean_ = total / len(normals)

    def score(self, pixels: Tensor) -> Prediction:
        if "mean_" not in vars(self):
            raise NotFitted("Not fitted.")
        maps = self.gain * (pixels - self.mean_).abs().amax(1)
        return Prediction(maps.amax(dim=(1, 2)).numpy(), maps.numpy())

    def state(self) -> dict[str, Tensor]:
        if "mean_" not in vars(self):
            raise NotFitted("Not fitted.")
        return {"mean": self.mean_}

    def restore(self, state: Mapping[str, Tensor]) -> Any:
        if "mean" not in state or state["mean"].ndim != 3 or not state["mean"].isfinite().all():
            raise DataError("This is not a state.")
        self.mean_ = state["mean"].clone()
        return self

    def cost(self, n: int, height: int, width: int) -> Cost:
        picture = 4 * 3 * height * width
        return Cost(fit_bytes=3 * picture, state_bytes=picture, operations=float(n * picture))


class RemembersAnEarlierFit(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        super()._learn(normals, tick)
        self.mean_ = self.past = 0.5 * (self.mean_ + vars(self).get("past", self.mean_))


class LosesDigitsInItsState(Honest):
    def state(self) -> dict[str, Tensor]:
        return {"mean": super().state()["mean"].half().float()}


class TakesAnyState(Honest):
    def restore(self, state: Mapping[str, Tensor]) -> Any:
        self.mean_ = next(iter(state.values()), torch.zeros(3, 1, 1))
        return self


class LooksAtTheBatch(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        return Prediction(told.scores + told.scores.mean(), told.maps)


class LearnsWhileScoring(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        self.mean_ = 0.9 * self.mean_ + 0.1 * pixels.mean(0)
        return told


class WritesIntoThePixels(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        pixels.clamp_(0.2, 0.8)
        return told


class ScoresUpsideDown(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        assert told.maps is not None
        return Prediction(-told.scores, -told.maps)


class MapsUpsideDown(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        assert told.maps is not None
        return Prediction(told.scores, -told.maps)


class DrawsFromTheCommonSource(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        super()._learn(normals, tick)
        self.mean_ = self.mean_ + 0.01 * torch.randn(())


class WantsEvenSides(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        assert told.maps is not None
        return Prediction(told.scores, told.maps.reshape(len(pixels), -1, 2).reshape(told.maps.shape))


class DividesByTheSpread(Honest):
    """Right for all pictures but those that never vary."""

    def _learn(self, normals: Images, tick: Tick) -> None:
        super()._learn(normals, tick)
        pixels = torch.cat([batch.pixels for batch in normals])
        self.mean_ = self.mean_ / (pixels.std() > 0).float()


class TakesTooFew(Honest):
    def fit(self, normals: Images, tick: Tick = silent) -> Any:
        if len(normals) == 1:
            self._learn(normals, tick)
            return self
        return super().fit(normals, tick)


class KeepsTheNumberToItself(Honest):
    def fit(self, normals: Images, tick: Tick = silent) -> Any:
        vars(self).pop("mean_", None)
        if len(normals) < 2:
            raise DataError("There are too few normal pictures.")
        return super().fit(normals, tick)


class KeepsHalfAFit(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        self.mean_ = next(iter(normals)).pixels.mean(0)
        super()._learn(normals, tick)


class KeepsTheEarlierFitWhenStopped(Honest):
    def fit(self, normals: Images, tick: Tick = silent) -> Any:
        if len(normals) < 2:
            return super().fit(normals, tick)
        self._learn(normals, tick)
        return self


class NeverTicks(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        super()._learn(normals, silent)


class RunsBackwards(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        super()._learn(normals, lambda fraction, message, /, **numbers: tick(1 - fraction, message, **numbers))


class ScoresBeforeItIsFitted(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        if "mean_" not in vars(self):
            return Prediction(np.zeros(len(pixels), np.float32), np.zeros((len(pixels), 64, 64), np.float32))
        return super().score(pixels)


class MapsOfAnotherSize(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        assert told.maps is not None
        return Prediction(told.scores, told.maps[:, ::2, ::2])


class ForgetsItsMap(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        return Prediction(super().score(pixels).scores)


class ScoresInDoubles(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        return Prediction(told.scores.astype(np.float64), told.maps)


class OverflowsOnWhite(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        told = super().score(pixels)
        white = (pixels.amin(dim=(1, 2, 3)) == 1).numpy()
        return Prediction(np.where(white, np.float32(np.inf), told.scores), told.maps)


class PromisesTooLittleMemory(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        hidden = torch.zeros(20, *next(iter(normals)).pixels.shape[1:])
        super()._learn(normals, tick)
        self.mean_ = self.mean_ + hidden.sum()


class PromisesTooSmallAState(Honest):
    def cost(self, n: int, height: int, width: int) -> Cost:
        told = super().cost(n, height, width)
        return Cost(told.fit_bytes, told.state_bytes // 3, told.operations)


class HidesNumpyMemory(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        hidden = np.zeros((20, *next(iter(normals)).pixels.shape[1:]), np.float32)
        super()._learn(normals, tick)
        self.mean_ = self.mean_ + float(hidden.sum())


class StacksAllNormals(Honest):
    def _learn(self, normals: Images, tick: Tick) -> None:
        stack = torch.cat([batch.pixels for batch in normals])
        super()._learn(normals, tick)
        self.mean_ = stack.mean(0)


@dataclass
class HasABareSetting(Honest):
    strength: float = 1.0


@dataclass
class HasADefaultOutOfBounds(Honest):
    strength: float = setting(3.0, low=0.0, high=1.0, label="Strength", help="How strong.")


class Warns(Honest):
    def score(self, pixels: Tensor) -> Prediction:
        warnings.warn("a copy is made", stacklevel=2)
        return super().score(pixels)


class NamesAStranger(Honest):
    def explain(self, pixels: Tensor) -> list[Explanation]:
        self.state()
        return [Explanation(picture=Nearest(6, 1.0))] * len(pixels)


class PointsBeyondTheEdge(Honest):
    def explain(self, pixels: Tensor) -> list[Explanation]:
        self.state()
        return [Explanation(place=Nearest(0, 1.0, (0.5, 0.5), (0.5, 64.0)))] * len(pixels)


class LevelsThatDoNotAddUp(Honest):
    def explain(self, pixels: Tensor) -> list[Explanation]:
        return [Explanation(levels=(2 * float(score),)) for score in self.score(pixels).scores]


class ExplainsBeforeItIsFitted(Honest):
    def explain(self, pixels: Tensor) -> list[Explanation]:
        return [Explanation()] * len(pixels)


class RebuildsBeyondWhite(Honest):
    def reconstruct(self, pixels: Tensor) -> Tensor:
        self.state()
        return 2 * pixels


FAULTS = {
    "a_second_fit_forgets_the_first": (RemembersAnEarlierFit,),
    "a_restored_detector_scores_the_same_to_the_bit": (LosesDigitsInItsState,),
    "a_state_that_does_not_fit_is_refused": (TakesAnyState,),
    "a_picture_scores_the_same_alone_and_in_any_batch": (LooksAtTheBatch,),
    "scoring_changes_nothing": (LearnsWhileScoring, WritesIntoThePixels),
    "larger_is_more_anomalous": (ScoresUpsideDown, MapsUpsideDown),
    "the_seed_decides_all_chance": (DrawsFromTheCommonSource,),
    "grey_and_odd_sized_pictures_are_taken": (WantsEvenSides, DividesByTheSpread),
    "too_few_normals_are_refused_with_the_number": (TakesTooFew, KeepsTheNumberToItself),
    "stop_leaves_nothing_behind": (KeepsHalfAFit, KeepsTheEarlierFitWhenStopped, NeverTicks, RunsBackwards),
    "nothing_is_scored_before_a_fit": (ScoresBeforeItIsFitted,),
    "scores_and_maps_are_as_promised": (MapsOfAnotherSize, ForgetsItsMap, ScoresInDoubles, OverflowsOnWhite),
    "the_estimate_is_within_a_factor_of_two": (PromisesTooLittleMemory, PromisesTooSmallAState, HidesNumpyMemory),
    "memory_does_not_grow_with_the_normals": (StacksAllNormals,),
    "settings_are_described": (HasABareSetting, HasADefaultOutOfBounds),
    "no_warning_is_given": (Warns,),
    "what_it_tells_besides_is_about_its_own_score": (
        NamesAStranger,
        PointsBeyondTheEdge,
        LevelsThatDoNotAddUp,
        ExplainsBeforeItIsFitted,
        RebuildsBeyondWhite,
    ),
}


def subject_of(detector: type[Honest]) -> Subject:
    return Subject(lambda seed: detector(seed=seed), needs=2, gives_map=True)


@pytest.mark.parametrize("promise", PROMISES)
def test_an_honest_detector_keeps(promise):
    PROMISES[promise](subject_of(Honest))


@pytest.mark.parametrize(("promise", "fault"), [(p, fault) for p, faults in FAULTS.items() for fault in faults])
def test_a_fault_is_caught(promise, fault):
    with pytest.raises((AssertionError, ValueError, RuntimeError, pytest.fail.Exception)):
        PROMISES[promise](subject_of(fault))


def test_every_promise_has_its_fault():
    assert FAULTS.keys() == PROMISES.keys()
