"""The methods: one line each, and the one way to build them from plain values.

A new method costs its file, one line in METHODS and one line of quick settings in `tests/test_contract.py`; the form on
the Fit page, the command line and the catalogue of promises read everything else from here.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from adlib.contract import AdlibError, Backbone, Card, Detector

METHODS: dict[str, Card] = {
    "patchcore": Card(
        "PatchCore", "adlib.methods.patchcore:PatchCore", family="memory", gives_map=True, needs=1, stages="middle",
        cross_fit=True, good_at="The best first choice: finds small defects anywhere, even when parts are not aligned.",
        source="Roth et al. 2022, arXiv:2106.08265",
    ),
    "padim": Card(
        "PaDiM", "adlib.methods.padim:Padim", family="density", gives_map=True, needs=2, stages="early",
        cross_fit=True, good_at="Fast, with memory that never grows; best when every part lies in the same place.",
        source="Defard et al. 2020, arXiv:2011.08785",
    ),
    "gaussian": Card(
        "Gaussian-AD", "adlib.methods.gaussian:Gaussian", family="density", gives_map=False, needs=2, stages="all",
        cross_fit=True, good_at="One decision for the whole picture from every level of a network; no heatmap.",
        source="Rippel et al. 2020, arXiv:2005.14140",
    ),
    "knn": Card(
        "Deep kNN", "adlib.methods.knn:KNN", family="memory", gives_map=False, needs=1, stages="all",
        cross_fit=True, good_at="The simplest deep baseline: how far is the picture from its nearest normals? No heatmap.",
        source="Bergman et al. 2020, arXiv:2002.10445",
    ),
    "ocsvm": Card(
        "One-class SVM", "adlib.methods.ocsvm:OneClassSVM", family="classical", gives_map=False, needs=2, stages="all",
        cross_fit=True, good_at="A smooth region that holds nearly all normals; for several kinds of normal. No heatmap.",
        source="Schölkopf et al. 2001; scikit-learn",
    ),
    "lof": Card(
        "Local outlier factor", "adlib.methods.lof:LocalOutlierFactor", family="classical", gives_map=False, needs=2,
        stages="all", cross_fit=True, good_at="For normals of which some kinds vary more than others. No heatmap.",
        source="Breunig et al. 2000; scikit-learn",
    ),
    "isolation_forest": Card(
        "Isolation forest", "adlib.methods.isolation_forest:IsolationForest", family="classical", gives_map=False,
        needs=2, stages="all", cross_fit=True,
        good_at="Quick and without a distance, but coarse: a baseline for comparison. No heatmap.",
        source="Liu et al. 2008; scikit-learn",
    ),
    "kde": Card(
        "Kernel density", "adlib.methods.kde:KernelDensity", family="classical", gives_map=False, needs=2, stages="all",
        cross_fit=True, good_at="A likelihood with a width that the normals choose themselves. No heatmap.",
        source="Parzen 1962; scikit-learn",
    ),
    "metric_learning": Card(
        "Metric learning", "adlib.methods.metric_learning:MetricLearning", family="memory", gives_map=False, needs=2,
        stages="all", cross_fit=False,
        good_at="For several kinds of normal: trains the network to tell them apart, and finds what is none of them. "
        "No heatmap.",
        source="Deng et al. 2019, arXiv:1801.07698; Wang et al. 2018, arXiv:1801.09414; Liu et al. 2017, arXiv:1704.08063",
    ),
    "autoencoder": Card(
        "Autoencoder", "adlib.methods.autoencoder:Autoencoder", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="Worth trying on small grey pictures such as digits, and on parts that all lie alike; draws what it expected.",
        source="Bergmann et al. 2018, arXiv:1807.02011",
    ),
    "vae": Card(
        "Variational autoencoder", "adlib.methods.vae:VAE", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="Worth trying where normals differ in few ways, such as handwriting; a defect counts by how improbable it is.",
        source="Kingma & Welling 2014, arXiv:1312.6114; An & Cho 2015",
    ),
    "pixelcnn": Card(
        "PixelCNN", "adlib.methods.pixelcnn:PixelCNN", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="To learn from: exact probabilities, and their paradox, that a strange picture simpler than the normals "
        "is more probable than they are.",
        source="van den Oord et al. 2016, arXiv:1601.06759",
    ),
    "anogan": Card(
        "AnoGAN", "adlib.methods.anogan:AnoGAN", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="Worth trying on calm surfaces such as paper, if about a second for each picture is no matter; "
        "an autoencoder was better there and on digits.",
        source="Schlegl et al. 2017, arXiv:1703.05921",
    ),
    "ganomaly": Card(
        "GANomaly", "adlib.methods.ganomaly:GANomaly", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="Worth trying on small grey pictures such as digits; on parts it notices most defects, but an autoencoder "
        "places them better.",
        source="Akcay et al. 2018, arXiv:1805.06725",
    ),
    "skip_ganomaly": Card(
        "Skip-GANomaly", "adlib.methods.skip_ganomaly:SkipGANomaly", family="reconstruction", gives_map=True, needs=2,
        stages="", cross_fit=False,
        good_at="To learn from: a U-Net whose skips can copy a defect as well; on every set of parts that we measured an "
        "autoencoder did better.",
        source="Akcay et al. 2019, arXiv:1901.08954",
    ),
    "f_anogan": Card(
        "f-AnoGAN", "adlib.methods.f_anogan:FAnoGAN", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="Worth trying where AnoGAN takes too long: one pass for each picture; on one of two papers it lost to the "
        "pixel median, on digits to the autoencoder.",
        source="Schlegl et al. 2019, Medical Image Analysis 54",
    ),
    "egbad": Card(
        "EGBAD", "adlib.methods.egbad:EGBAD", family="reconstruction", gives_map=True, needs=2, stages="",
        cross_fit=False,
        good_at="To learn from: encoder and generator learn against one judge; close to the autoencoder on digits, "
        "behind the pixel median over two papers.",
        source="Zenati et al. 2018, arXiv:1802.06222",
    ),
    "pixel_median": Card(
        "Pixel median", "adlib.methods.pixel_median:PixelMedian", family="baseline", gives_map=True, needs=2, stages="",
        cross_fit=True, good_at="The floor that every deep method must beat: compares pixels with the median normal.",
        source="Order statistics of the pixels; no network",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One hyperparameter as data.  type: bool, int, float or str; low and high are allowed values."""

    name: str
    label: str
    type: type
    default: Any
    low: float | None
    high: float | None
    choices: tuple[Any, ...]
    help: str


def card(method: str) -> Card:
    """Raises AdlibError when there is no such method, with the ones there are."""
    if method not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise AdlibError("There is no method called '{method}'. Known: {known}.", method=str(method)[:80], known=known)
    return METHODS[method]


def _class(method: str) -> type:
    module, _, name = card(method).where.partition(":")
    return cast(type, getattr(importlib.import_module(module), name))


def uses_backbone(method: str) -> bool:
    return bool(card(method).stages)


def settings(method: str) -> list[Setting]:
    """The method's hyperparameters in the order of its source, without backbone and seed, which all methods share."""
    found = []
    for field in dataclasses.fields(_class(method)):
        if "help" in field.metadata and field.name not in ("backbone", "seed"):
            about = field.metadata
            found.append(
                Setting(
                    field.name, about["label"] or field.name, type(field.default), field.default,
                    about["low"], about["high"], tuple(about["choices"]), about["help"],
                )
            )  # fmt: skip
    return found


def _value(known: Setting, value: Any) -> Any:
    """`value` as the setting's type, within its bounds, or a sentence why not."""
    wrong = AdlibError(
        "'{name}' cannot be '{value}': it takes {allowed}.",
        name=known.name,
        value=str(value)[:80],
        allowed=allowed(known),
    )
    if known.type is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, str):
            value = words.get(value.lower(), value)
        if not isinstance(value, bool):
            raise wrong
        return value
    try:
        made = known.type(value)
    except (TypeError, ValueError):
        raise wrong from None
    if isinstance(value, bool) or (known.type is int and isinstance(value, float) and value != made):
        raise wrong
    if known.choices and made not in known.choices:
        raise wrong
    if known.type is float and not math.isfinite(made):
        raise wrong
    if (known.low is not None and made < known.low) or (known.high is not None and made > known.high):
        raise wrong
    return made


def allowed(known: Setting) -> str:
    """What a setting takes, in a few words."""
    if known.type is bool:
        return "true or false"
    if known.choices:
        return ", ".join(map(str, known.choices))
    kind = {int: "a whole number", float: "a number", str: "text"}[known.type]
    if known.low is not None and known.high is not None:
        return f"{kind} from {known.low:g} to {known.high:g}"
    if known.low is not None:
        return f"{kind} of at least {known.low:g}"
    return kind


def checked(method: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the method, the chosen ones checked and the rest at their defaults: what run.json keeps.

    Raises AdlibError for a name the method does not have, or a value outside its bounds.
    """
    known = {setting.name: setting for setting in settings(method)}
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise AdlibError(
                "{method} has no setting '{name}'. It has: {known}.{hint}",
                method=card(method).title, name=str(name)[:80], known=", ".join(known) or "none", hint=hint,
            )  # fmt: skip
    return {name: _value(known[name], chosen.get(name, known[name].default)) for name in known}


def parse(method: str, pairs: Iterable[str]) -> dict[str, Any]:
    """["k=5", …] of the command line → checked settings."""
    chosen = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise AdlibError("'{pair}' is not key=value. Example: --set k=5.", pair=pair[:80])
        chosen[name.strip()] = value.strip()
    return checked(method, chosen)


def build(
    method: str, chosen: Mapping[str, Any] | None = None, backbone: Backbone | None = None, seed: int = 0
) -> Detector:
    """A detector that has learned nothing yet.  backbone: None = the default; ignored by methods that use none."""
    values: dict[str, Any] = checked(method, chosen or {}) | {"seed": seed}
    if uses_backbone(method):
        values["backbone"] = backbone or Backbone()
    return cast(Detector, _class(method)(**values))
