"""Where the weights of backbones lie, and how they come here; nothing is fetched unless `fetch` is called.

Weights are looked for in the file or folder that was given, then in ADLIB_WEIGHTS, then in the Hugging Face cache.
Pages list backbones with it, so torch is not needed here: tensors are read in `states`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adlib.contract import AdlibError, DataError, Tick, WeightsMissing, silent

OFFLINE = "offline"
PURE = "offline_pure"
BUILT_IN = (OFFLINE, PURE)  # their files ship with adlib
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)?")


@dataclass(frozen=True)
class Suggestion:
    """A backbone worth trying.  megabytes: size of the download.  licence: of the weights.

    measured: mean image AUROC on our ten real sets, all methods (benchmarks/results.md); None where it was not measured.
    """

    name: str
    family: str
    megabytes: float
    licence: str
    about: str
    measured: float | None = None


@dataclass(frozen=True)
class Ready:
    """A backbone that can be used at once.  path: None for one that is built in."""

    name: str
    path: Path | None
    megabytes: float
    licence: str
    offline: bool


CARD = "see model card"

SUGGESTED = (
    Suggestion(
        OFFLINE, "Built in", 0, "", "Built in, works offline: trained on pictures made by formula.", measured=0.908
    ),
    Suggestion(
        PURE,
        "Built in",
        0,
        "",
        "Built in, works offline: learned from formulas alone, without a teacher.",
        measured=0.887,
    ),
    Suggestion(
        "resnet18.tv_in1k", "ResNet", 47, "BSD-3-Clause", "Small and quick; the usual first choice.", measured=0.893
    ),
    Suggestion("resnet50.tv_in1k", "ResNet", 102, "BSD-3-Clause", "A larger ResNet."),
    Suggestion(
        "wide_resnet50_2.tv_in1k", "ResNet", 276, "BSD-3-Clause", "What PaDiM and PatchCore were published with."
    ),
    Suggestion("mobilenetv3_large_100.ra_in1k", "MobileNet", 22, "Apache-2.0", "For slow machines."),
    Suggestion("tf_efficientnet_b0.aa_in1k", "EfficientNet", 21, "Apache-2.0", "Nine levels, for Gaussian-AD."),
    Suggestion("tf_efficientnet_b4.aa_in1k", "EfficientNet", 78, "Apache-2.0", "What Gaussian-AD was published with."),
    Suggestion("convnext_tiny.in12k_ft_in1k", "ConvNeXt", 114, "Apache-2.0", "A modern convolutional network."),
    Suggestion("vit_small_patch14_dinov2.lvd142m", "ViT", 88, "Apache-2.0", "A self-supervised transformer."),
)

# Names without a tag mean the weights that the papers used, not timm's newest recipe.
PREFERRED = {
    "resnet18": "tv_in1k",
    "resnet34": "tv_in1k",
    "resnet50": "tv_in1k",
    "resnet101": "tv_in1k",
    "wide_resnet50_2": "tv_in1k",
    "wide_resnet101_2": "tv_in1k",
    **{f"tf_efficientnet_b{level}": "aa_in1k" for level in range(8)},
}


# --- finding ----------------------------------------------------------------------------------------------------------


def split(name: str) -> tuple[str, str]:
    """`resnet18.tv_in1k` → ("resnet18", "tv_in1k"); without a tag, the tag that is preferred, or ""."""
    architecture, _, tag = name.partition(".")
    return architecture, tag or PREFERRED.get(architecture, "")


def find(name: str, where: str = "") -> Path | None:
    """The file with this backbone's weights, or None.  Never asks the network.

    where: a file, taken as it is, or a folder to look in first.
    """
    if where and Path(where).expanduser().is_file():
        return Path(where).expanduser()
    for place in _places(where):
        if place.is_file():
            if _belongs(place.name, name):
                return place
        elif (found := _in_folder(place, name)) is not None:
            return found
    return None


def ready() -> list[Ready]:
    """The built-in backbones, then all whose weights are on this machine, by name."""
    found: dict[str, Path] = {}
    for place in _places(""):
        for path, name in _all(place):
            found.setdefault(name, path)
    licences = {known.name: known.licence for known in SUGGESTED}
    return [Ready(name, None, 0, "", True) for name in BUILT_IN] + [
        Ready(
            name,
            path,
            path.stat().st_size / 1e6,
            about(path).get("licence") or licences.get(_known(name), CARD),
            False,
        )
        for name, path in sorted(found.items())
    ]


def better(ready: Iterable[str]) -> str | None:
    """Of these backbones the one that found most defects in our measurements; None when the built-in one did."""
    measured = {one.name: one.measured for one in SUGGESTED if one.measured is not None}
    best = max(
        (name for name in ready if _known(name) in measured), key=lambda name: measured[_known(name)], default=OFFLINE
    )
    return best if measured[_known(best)] > measured[OFFLINE] else None


def _known(name: str) -> str:
    """The name under which weights are suggested: with the tag that is preferred."""
    return ".".join(filter(None, split(name)))


def missing(name: str) -> WeightsMissing:
    """What to tell a person whose backbone has no weights here."""
    if not _NAME.fullmatch(name):  # it would stand in a command to copy
        return WeightsMissing("'{name}' is not the name of a backbone. Example: resnet18.tv_in1k.", name=name[:80])
    return WeightsMissing(
        "The weights of '{name}' are not on this machine. Put '{name}.safetensors' into the folder that ADLIB_WEIGHTS names, "
        "or fetch them on the Models page or with the command python -m adlib weights {name}, or give a file with --weights. "
        "The backbone 'offline' works without weights.",
        name=name[:80],
    )


def _places(where: str) -> Iterator[Path]:
    for given in (where, os.environ.get("ADLIB_WEIGHTS", "")):
        if given:
            yield Path(given).expanduser()
    yield _cache()


def _cache() -> Path:
    """The Hugging Face cache, by the rules of its library, which is slow to import."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    return Path(cache).expanduser()


def _stems(name: str) -> list[str]:
    """File names, without their endings, that may hold `name`, best first."""
    architecture, tag = split(name)
    stems = [name]
    if tag and tag == PREFERRED.get(architecture):
        stems += [architecture, f"{architecture}.{tag}"]
    return list(dict.fromkeys(stems))


def _belongs(file: str, name: str) -> bool:
    return any(file == stem + suffix for stem in _stems(name) for suffix in SUFFIXES)


def _in_folder(folder: Path, name: str) -> Path | None:
    stems = _stems(name)
    if "." not in name and folder.is_dir():  # any tag is better than none
        stems += sorted(found for _, found in _all(folder) if found.startswith(name + ".") and found not in stems)
    for stem in stems:
        if not _NAME.fullmatch(stem):  # a name is never a path
            continue
        plain = [folder / (stem + suffix) for suffix in SUFFIXES]
        nested = [folder / stem / file for file in HUB_FILES]
        for path in [*plain, *nested, *_snapshots(folder / f"models--timm--{stem}")]:
            if path.is_file():
                return path
    return None


def _snapshots(repository: Path) -> list[Path]:
    """The weights in one repository of a Hugging Face cache, the revision that `main` names first."""
    revisions = sorted((repository / "snapshots").glob("*"))
    main = repository / "refs" / "main"
    if main.is_file():
        current = main.read_text().strip()
        revisions.sort(key=lambda path: path.name != current)
    return [revision / file for revision in revisions for file in HUB_FILES]


def _all(place: Path) -> Iterator[tuple[Path, str]]:
    """Every weights file in a folder or cache, with the backbone's name."""
    if place.is_file():
        yield place, place.stem
    if not place.is_dir():
        return
    for entry in sorted(place.iterdir()):
        if entry.is_file() and entry.suffix in SUFFIXES and _NAME.fullmatch(entry.stem):
            yield entry, entry.stem
        elif entry.name.startswith("models--timm--"):
            for path in _snapshots(entry):
                if path.is_file():
                    yield path, entry.name.removeprefix("models--timm--")
                    break
        elif entry.is_dir() and _NAME.fullmatch(entry.name):
            for file in HUB_FILES:
                if (entry / file).is_file():
                    yield entry / file, entry.name
                    break


# --- what a file says of itself ---------------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """sha256 of the file, in hexadecimal; computed once as long as the file does not change."""
    return _digest(path, *stamp(path))


def about(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself: mean, std, pad_type, licence …; empty for other files.  Reads no tensor."""
    if path.suffix != ".safetensors":
        return {}
    said = header(path).get("__metadata__")
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}


def header(path: Path) -> Mapping[str, Any]:
    """The list of contents at the start of a safetensors file: {name: {dtype, shape, …}}.  DataError when damaged."""
    return _header(path, *stamp(path))


def damaged(path: Path, error: BaseException) -> DataError:
    return DataError(
        "'{file}' cannot be read as weights ({why}). Fetch it again, or save its state dict as safetensors.",
        file=path.name,
        why=type(error).__name__,
    )


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: what was learned of a file holds as long as these do."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def _header(path: Path, size: int, changed: int) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("the list is longer than the file")
            found = json.loads(file.read(length))
        if not isinstance(found, dict):
            raise ValueError("the list is not a table")
        return found
    except (OSError, ValueError, struct.error) as error:
        raise damaged(path, error) from None


# --- fetching ---------------------------------------------------------------------------------------------------------


def fetch(name: str, tick: Tick = silent) -> Path:
    """Fetches the weights from the Hugging Face hub into its usual cache.  The only function that uses the network.

    tick: called while bytes arrive; raises Stopped on request, and a later call goes on where this one stopped.
    Raises AdlibError when the hub has no such weights or cannot be reached.
    """
    if name in BUILT_IN:
        raise AdlibError("The backbone '{name}' is built in; there is nothing to fetch.", name=name)
    if not _NAME.fullmatch(name):
        raise AdlibError("'{name}' is not the name of a backbone. Example: resnet18.tv_in1k.", name=name[:80])
    from huggingface_hub import constants, errors, hf_hub_download

    constants.HF_HUB_DISABLE_XET = True  # plain HTTPS instead: it passes proxies, and Stop reaches it
    stem = ".".join(filter(None, split(name)))
    tick(0.0, "asking the Hugging Face hub for '{name}'", name=stem)
    for file in HUB_FILES:
        try:
            bar, endpoint = _bar(stem, tick), os.environ.get("HF_ENDPOINT") or None
            return Path(hf_hub_download(f"timm/{stem}", file, cache_dir=_cache(), tqdm_class=bar, endpoint=endpoint))
        except errors.RemoteEntryNotFoundError:
            continue  # older weights lie there as a torch file
        except (errors.RepositoryNotFoundError, errors.GatedRepoError):
            break
        except AdlibError:
            raise
        except Exception as error:  # a dozen kinds of network trouble, and one answer to all of them
            raise AdlibError(
                "The Hugging Face hub could not be reached ({why}). Check the network, or HTTPS_PROXY behind a proxy; or "
                "download '{file}' of huggingface.co/timm/{name} elsewhere and put it as '{name}{suffix}' into the "
                "folder that ADLIB_WEIGHTS names.",
                why=type(error).__name__, file=HUB_FILES[0], name=stem, suffix=SUFFIXES[0],
            ) from None  # fmt: skip
    raise AdlibError(
        "The Hugging Face hub has no open weights 'timm/{name}'. Names end in a tag, as in resnet18.tv_in1k: "
        "look for them at huggingface.co/timm.",
        name=stem,
    )


def _bar(name: str, tick: Tick) -> Any:
    """What the hub's library takes for a progress bar, and is a tick."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc, valid-type, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            tick(
                min(1.0, self.n / self.total) if self.total else 0.0,
                "fetching '{name}': {done} of {total} MB",
                name=name, done=round(self.n / 1e6), total=round((self.total or 0) / 1e6),
            )  # fmt: skip
            return drawn

    return Bar
