"""What every part of adlib agrees on: plain values, three protocols, and the errors a person may meet.

Read this first.  Nothing here computes; torch is named only for the type checker, because tensors end at the detector.
Letters are the same everywhere: B batch, N pictures, C channels, H W pixels, h w grid, P = h*w, D embedding.
A score or a map is larger where a picture is more anomalous; label 0 is normal, 1 is a defect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

VERSION = "0.1.0"


# --- what people read -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sentence:
    """One sentence for a person: an English template and the values in it.

    The two stay apart until the last moment, so that a page can say the same in another language
    (`assets/words/`) and a run folder can keep it as data.

    >>> str(Sentence("{n} pictures", {"n": 3}))
    '3 pictures'
    """

    template: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.template.format(**self.values)

    def as_json(self) -> list[Any]:
        return [self.template, dict(self.values)]

    @classmethod
    def from_json(cls, pair: list[Any]) -> Sentence:
        return cls(pair[0], pair[1])


def say(template: str, /, **values: Any) -> Sentence:
    """A sentence; `template` is a literal, so that a test can find it and ask for its translation."""
    return Sentence(template, values)


class AdlibError(Exception):
    """Something a person can mend.  The sentence says what is wrong, where, and the next step."""

    def __init__(self, template: str, /, **values: Any) -> None:
        self.sentence = Sentence(template, values)
        super().__init__(str(self.sentence))


class DataError(AdlibError):
    """The pictures are too few, damaged or not what the step needs."""


class NotFitted(AdlibError):
    """A detector was asked to score before it was fitted or restored."""


class WeightsMissing(AdlibError):
    """The backbone's weights are not on this machine, and nothing is fetched behind a person's back."""


class TooLarge(AdlibError):
    """The step would not fit into this machine's memory or a stated limit."""


class Stopped(AdlibError):
    """The person pressed Stop.  Raised by `tick`; nothing half-made is kept."""

    def __init__(self) -> None:
        super().__init__("Stopped at your request; nothing was kept.")


# --- settings ---------------------------------------------------------------------------------------------------------


def setting(
    default: Any,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
    label: str = "",
) -> Any:
    """A hyperparameter of a detector, as a dataclass field that a form and the command line can read.

    low, high: bounds, both allowed values.  choices: the only allowed values.
    label: its name on the screen; without one, the field's name.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "label": label}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Backbone:
    """Which frozen network looks at the pictures: a plain value that travels in run.json.

    name: a timm architecture, with or without its weight tag, or "offline" or "offline_pure" (built in, no weights needed).
    stages: levels to read, 0 = nearest to the pixels; () = the method's usual ones, made explicit before a fit.
    size: side in pixels of the square that every picture is resized to.
    weights: file or folder to look in first; "" = the usual places (`adlib.weights`).
    precision: "auto", "fp32" or "bf16"; "auto" is made explicit before a fit, so that fit and score agree.
    """

    name: str = "offline"
    stages: tuple[int, ...] = ()
    size: int = 256
    weights: str = ""
    precision: str = "auto"


@dataclass(frozen=True)
class Card:
    """One registry line: all that the rest of the house knows about a method before it is built.

    where: "module:Class".  family: how methods are grouped on the screen.
    needs: fewest normals a fit accepts.  stages: usual levels, "early", "middle", "all", or "" when no backbone is used.
    cross_fit: the fit is cheap enough to be repeated in folds when there are few normals.
    good_at, source: one sentence each for the method's card.
    """

    title: str
    where: str
    family: str
    gives_map: bool
    needs: int
    stages: str
    cross_fit: bool
    good_at: str
    source: str


# --- pictures and predictions -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One picture that passed intake.

    path: file with the picture's own bytes.  label: 0 normal, 1 defect, None unknown.
    kind: class of a normal, or kind of defect.  mask: file, non-zero where the defect is, same size as the picture.
    split: "train" for normals to learn from, "test" for the rest.
    digest: sha256 of the bytes, the picture's identity.  name: what the person called it; for display only, never a path.
    """

    path: Path
    label: int | None
    kind: str
    mask: Path | None
    split: str
    digest: str
    name: str


class Batch(NamedTuple):
    """pixels: (B, 3, H, W) float32 RGB in [0, 1].  kinds: B class names of the normals."""

    pixels: Tensor
    kinds: tuple[str, ...]


class Images(Protocol):
    """Normals as batches.  Can be iterated again and again, in the same order; `len` is the number of pictures."""

    @property
    def size(self) -> int: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Prediction:
    """What a detector says about N pictures, in its own unit.  Checks itself.

    scores: (N,) float32.  maps: (N, H, W) float32, as large as the pixels scored, or None.
    embeddings: (N, D) float32, one row a picture, for t-SNE and nearest pictures, or None.
    Raises ValueError when a shape is wrong or a value is not finite: that is a fault of the method, not of the person.
    """

    scores: np.ndarray
    maps: np.ndarray | None = None
    embeddings: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        wanted = (("scores", self.scores, 1), ("maps", self.maps, 3), ("embeddings", self.embeddings, 2))
        for name, values, ndim in wanted:
            if values is None:
                continue
            if values.ndim != ndim or len(values) != n:
                raise ValueError(f"{name} has shape {values.shape} for {n} pictures; {ndim} axes are promised")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds a value that is not finite")

    @classmethod
    def join(cls, parts: list[Prediction]) -> Prediction:
        """Predictions of several batches as one.  parts: at least one, all of the same method."""

        def column(name: str) -> np.ndarray | None:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else np.concatenate(values)

        scores = column("scores")
        assert scores is not None
        return cls(scores, column("maps"), column("embeddings"))


@dataclass(frozen=True)
class Threshold:
    """A line between normal and alarm; alarm when score > value.  Its law travels with it.

    value: in the method's own unit.  rule: how it was set.  fitted_on: what it was learned on.
    alpha: the false-alarm rate that the rule promises, None when it promises none.
    key: which of `rules.RULES` set it, "hand" for a person, "" when nobody kept it.
    oracle: chosen on labelled tests, so that figures on those very tests flatter it.
    """

    value: float
    rule: Sentence
    fitted_on: Sentence
    alpha: float | None = None
    key: str = ""
    oracle: bool = False


@dataclass(frozen=True)
class Calibration:
    """What held-out normals say, so that scores of any method can be read alike.

    unit: mean score of held-out normals; a score divided by it reads about 1 for a normal picture.
    map_unit: value of the map that is shown as 1x the threshold, None without a map.
    normals: how many held-out normals this rests on.  cross_fitted: they were scored out of fold.
    scores: those normals' own scores, in the method's unit.  peaks: largest value of each one's map, in the same order;
    None without a map, or in a run that kept none.
    """

    unit: float
    threshold: Threshold
    map_unit: float | None
    normals: int
    cross_fitted: bool
    scores: tuple[float, ...]
    peaks: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Confusion:
    """Counts at one threshold; a defect that raises an alarm is a true positive."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


@dataclass(frozen=True)
class Report:
    """An evaluation.  What could not be measured is None, with the reason in `skipped`.

    All areas and rates are in [0, 1].  `image_f1_oracle` is the best F1 of any threshold, chosen on the pictures it is
    reported on: an upper bound, not a promise.  `f1` is the F1 at the run's own threshold.
    intervals: 95 % intervals by the name of the field.
    """

    image_auroc: float | None
    image_ap: float | None
    image_f1_oracle: float | None
    pixel_auroc: float | None
    aupro: float | None
    threshold: float
    fpr: float | None
    tpr: float | None
    n_normal: int
    n_defect: int
    confusion: Confusion | None
    intervals: Mapping[str, tuple[float, float]]
    ms_per_image: float
    fit_seconds: float
    peak_mb: float
    skipped: tuple[Sentence, ...]
    f1: float | None = None


@dataclass(frozen=True)
class Cost:
    """What a fit will take, told before it starts.

    fit_bytes: most memory held at once during the fit, beyond the network's weights.
    state_bytes: size of the learned state, kept afterwards.  operations: multiply-adds of the fit, roughly.
    """

    fit_bytes: int
    state_bytes: int
    operations: float


@dataclass(frozen=True)
class Nearest:
    """The fitted normal that a picture, or one place of it, resembles most.

    normal: its number, counted from 0 in the order in which the fit read the normals.
    distance: to it, in the method's own unit.
    here, there: centre (x, y) of the place in the looked-at picture and in the normal, as shares of the square's side,
    in [0, 1] from the upper left corner; None when the whole pictures were compared.
    """

    normal: int
    distance: float
    here: tuple[float, float] | None = None
    there: tuple[float, float] | None = None


@dataclass(frozen=True)
class Explanation:
    """What a method itself knows of one picture's score; what it cannot tell is None or ().

    picture: the nearest normal of the whole picture.  place: the nearest patch of any normal to the patch that decides
    the score.  levels: what each level of the network adds to the score, nearest to the pixels first; they sum to it.
    """

    picture: Nearest | None = None
    place: Nearest | None = None
    levels: tuple[float, ...] = ()


# --- who does the work ------------------------------------------------------------------------------------------------


class Tick(Protocol):
    """Progress.  Called between batches and inside long loops, at least once a second; raises Stopped on request.

    fraction: share of the step that is done, in [0, 1].  message: a sentence template.  numbers: its values.
    A network that is trained hands over two more, once an epoch, which the run keeps (`adlib.learning`):
    losses: {name: value}; pictures: (K, h, w, 3) uint8, what it makes of a few normals, now and then.
    """

    def __call__(self, fraction: float, message: str, /, **numbers: Any) -> None: ...


def silent(fraction: float, message: str, /, **numbers: Any) -> None:
    """A tick that tells nobody and never stops."""


class FeatureExtractor(Protocol):
    """A frozen network that standardises its input itself and keeps nothing between calls.

    channels: C of each stage.  pixels: (B, 3, H, W) float32 in [0, 1].  Returns float32 maps (B, C, h, w), one a stage.
    """

    channels: tuple[int, ...]

    def __call__(self, pixels: Tensor) -> list[Tensor]: ...

    def through(self, pixels: Tensor, then: Callable[[list[Tensor]], Tensor]) -> Tensor:
        """`then` of the maps, (B, …) float32; `then` is given the maps of a few pictures at a time."""
        ...


class Detector(Protocol):
    """A method.  A dataclass whose fields are its hyperparameters; what it learns is named with a trailing `_`.

    Among the fields are always `backbone: Backbone` (methods without one leave it out) and `seed: int`.
    """

    def fit(self, normals: Images, tick: Tick = silent) -> Self:
        """Learns from normals alone; forgets an earlier fit.  Raises DataError when they are too few, Stopped by tick."""
        ...

    def score(self, pixels: Tensor) -> Prediction:
        """pixels: (B, 3, H, W).  A picture's result does not depend on its batch.  Raises NotFitted."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that was learned.  Raises NotFitted."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> Self:
        """Takes over a state; scores afterwards are identical to the bit.  Raises DataError when it does not fit."""
        ...

    def cost(self, n: int, height: int, width: int) -> Cost:
        """What fitting n pictures of that size will take, with these settings."""
        ...


# --- what a detector may offer besides ----------------------------------------------------------------------------------


@runtime_checkable
class Explains(Protocol):
    """A detector that knows why: it may leave this out, and `adlib.why` then compares embeddings and positions."""

    def explain(self, pixels: Tensor) -> list[Explanation]:
        """pixels: (B, 3, H, W).  One a picture, exact.  Raises NotFitted."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """A detector that rebuilds what it looks at; what it cannot rebuild is strange."""

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, H, W).  The same shape, in [0, 1].  Raises NotFitted."""
        ...


@runtime_checkable
class Remarks(Protocol):
    """A detector of which a person should know how it learned or what its score rests on."""

    def remarks(self) -> tuple[Sentence, ...]:
        """Shown beside every evaluation.  Raises NotFitted."""
        ...
