"""anomalib 2.7 at the same work: run by the Python of an environment of its own, never imported by adlib.

    PEER_PYTHON benchmarks/peer.py speed --method padim --data DIR --weights resnet18.safetensors
    PEER_PYTHON benchmarks/peer.py accuracy --method patchcore --task TASK.json --out DIR --weights …

`speed` times anomalib as its user runs it (Folder datamodule, Engine.fit, Engine.predict) and its bare model;
`accuracy` learns from and scores exactly the pictures it is told, and leaves scores.npy and maps.npy to be measured by
our own code.  The last line of the output is JSON.  Everything that a user can switch off to save time is off: logging,
checkpoints, progress bar, validation, evaluator, visualizer, post-processing.  Nothing is fetched: the network is built
without weights and filled from our file.
"""

# ruff: noqa: E402  (what imports depend on is set first)

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import timm
import torch
from anomalib.data import Folder
from anomalib.data.utils import TestSplitMode, ValSplitMode, read_image
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from anomalib.models.components import KCenterGreedy
from safetensors.torch import load_file

SIZE = 256
LAYERS = {"padim": ["layer1", "layer2", "layer3"], "patchcore": ["layer2", "layer3"]}
SHARE = 0.1  # of PatchCore's patches that are kept
EXTRAPOLATED = "extrapolated from {timed} picks"


def build(method: str, weights: Path, neighbours: int = 9) -> Any:
    """An unfitted Lightning module with our weights in its network.

    neighbours: of PatchCore's reweighting; anomalib's usual 9, or 1 for none.
    """
    off = {"evaluator": False, "visualizer": False, "post_processor": False, "pre_trained": False}
    if method == "padim":
        model = Padim(backbone="resnet18", layers=LAYERS[method], n_features=100, **off)
    else:
        layers = LAYERS[method]
        model = Patchcore(
            backbone="resnet18", layers=layers, coreset_sampling_ratio=SHARE, num_neighbors=neighbours, **off
        )
    state = {name: value.float() for name, value in load_file(weights).items()}
    net = model.model.feature_extractor.feature_extractor
    state = {name: value for name, value in state.items() if name in net.state_dict()}
    net.load_state_dict(state, strict=True)
    return model


def largest_difference(method: str, weights: Path) -> float:
    """Between the features of anomalib's network and those of a plain timm one with the same weights; relative."""
    model = build(method, weights).eval()
    levels = tuple(int(layer[-1]) for layer in LAYERS[method])
    plain = timm.create_model("resnet18", features_only=True, out_indices=levels, pretrained=False)
    state = {name: value.float() for name, value in load_file(weights).items()}
    plain.load_state_dict({name: state[name] for name in plain.state_dict() if name in state}, strict=True)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = model.model.feature_extractor(pixels), plain.eval()(pixels)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(theirs.values(), ours, strict=True))


# --- the coreset ------------------------------------------------------------------------------------------------------


class Picks:
    """Stands in for KCenterGreedy's loop: times real picks of its own code, then fills the bank at true size by chance.

    limit: picks really made; None makes all of them.  seconds: of one pick (mean of those timed), of the rest of the
    selection (projection), and of the whole selection as it would have been.
    """

    def __init__(self, limit: int | None, warm: int = 10) -> None:
        self.limit, self.warm = limit, warm
        self.about: dict[str, Any] = {}

    def __call__(self, sampler: KCenterGreedy) -> list[int]:
        start = time.perf_counter()
        sampler.model.fit(sampler.embedding)
        sampler.features = sampler.model.transform(sampler.embedding)
        sampler.reset_distances()
        projecting = time.perf_counter() - start
        wanted = sampler.coreset_size
        made = wanted if self.limit is None else min(wanted, self.limit + self.warm)
        index = torch.randint(high=sampler.n_observations, size=(1,)).squeeze()
        picked, took = [index], []
        for _ in range(made - 1):  # the body of KCenterGreedy.select_coreset_idxs
            start = time.perf_counter()
            sampler.update_distances(cluster_center=index)
            index = sampler.get_new_idx()
            sampler.min_distances.scatter_(0, index.unsqueeze(0).unsqueeze(1), 0.0)
            picked.append(index)
            took.append(time.perf_counter() - start)
        chosen = torch.stack(picked).tolist()
        timed = took[self.warm :] or took
        each = statistics.mean(timed) if timed else 0.0
        whole = sum(took) if made == wanted else each * (wanted - 1)
        self.about = {
            "patches": sampler.n_observations, "dimensions": int(sampler.features.shape[1]), "picks": wanted,
            "timed_picks": len(timed), "pick_ms": 1e3 * each, "pick_ms_median": 1e3 * statistics.median(timed or [0]),
            "pick_ms_least": 1e3 * min(timed or [0]), "projection_s": projecting, "coreset_s": projecting + whole,
            "really_spent_s": projecting + sum(took), "extrapolated": made < wanted,
        }  # fmt: skip
        if made < wanted:
            rest = np.setdiff1d(np.arange(sampler.n_observations), chosen)
            chance = np.random.default_rng(0)
            chosen += chance.choice(rest, wanted - len(chosen), replace=False).tolist()
        return chosen


def count_picks(picks: Picks) -> None:
    KCenterGreedy.select_coreset_idxs = lambda sampler: picks(sampler)


# --- speed ------------------------------------------------------------------------------------------------------------


def peak_mb() -> float:
    """Most memory that this process ever held (its loader processes, if any, are not counted)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def speed(method: str, data: Path, weights: Path, workers: int, picks: int) -> dict[str, Any]:
    """data: folder with train/good and test/good.  workers: loader processes; 0 loads in the fitting process."""
    found = {"method": method, "features_differ": largest_difference(method, weights), "workers": workers}
    found["torch"], found["threads"] = torch.__version__, torch.get_num_threads()
    counter = Picks(picks)
    count_picks(counter)
    folder = Folder(
        name="bench", root=data, normal_dir="train/good", normal_test_dir="test/good", num_workers=workers,
        train_batch_size=32, eval_batch_size=32, val_split_mode=ValSplitMode.NONE,
        test_split_mode=TestSplitMode.FROM_DIR,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as results:
        off = {"logger": False, "barebones": True, "limit_val_batches": 0}
        engine = Engine(default_root_dir=results, accelerator="cpu", devices=1, **off)
        model = build(method, weights)
        with torch.no_grad():  # the first call builds the processor's kernels; ours is warmed up in the same way
            model.model.feature_extractor(torch.zeros(2, 3, SIZE, SIZE))
        start, busy = time.perf_counter(), time.process_time()
        engine.fit(model=model, datamodule=folder)
        found["fit_s"], found["fit_cpu_s"] = time.perf_counter() - start, time.process_time() - busy
        if counter.about:
            found["coreset"] = counter.about
            found["fit_s"] += counter.about["coreset_s"] - counter.about["really_spent_s"]
        found["normals"] = len(folder.train_data)
        found["fit_peak_mb"] = peak_mb()
        start = time.perf_counter()
        predicted = engine.predict(model=model, datamodule=folder)
        pictures = sum(len(batch.pred_score) for batch in predicted)
        found["predict_ms"] = 1e3 * (time.perf_counter() - start) / pictures
        found["predicted"] = pictures
    found["peak_mb"] = peak_mb()
    bare = model.model.eval()
    some = torch.stack(
        [read_image(str(path), as_tensor=True) for path in sorted((data / "test" / "good").iterdir())[:16]]
    )
    for batch, rounds in ((1, 25), (16, 7)):
        pixels = some[:batch]
        with torch.inference_mode():
            bare(pixels)
            found[f"forward_ms_{batch}"] = median_ms(lambda x=pixels: bare(x), rounds) / batch
            net = bare.feature_extractor
            found[f"network_ms_{batch}"] = median_ms(lambda x=pixels, net=net: net(x), rounds) / batch
    return found


def median_ms(call: Any, rounds: int) -> float:
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return 1e3 * statistics.median(took)


# --- accuracy ---------------------------------------------------------------------------------------------------------


def accuracy(method: str, task: Path, out: Path, weights: Path, seed: int, neighbours: int) -> dict[str, Any]:
    """task: JSON {"normals": [path], "tests": [path], "channels": null or indices of PaDiM}.  Writes into `out`.

    The bare model with anomalib's own reading and preprocessing: the Engine would give the same numbers later.
    """
    asked = json.loads(task.read_text())
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (scikit-learn's sampler, inside anomalib's projection, draws from it)
    model = build(method, weights, neighbours)
    counter = Picks(None)
    count_picks(counter)
    prepare, net = model.pre_processor.transform, model.model
    if asked.get("channels"):
        net.idx = torch.tensor(asked["channels"])

    def batches(paths: list[str], size: int = 16) -> Any:
        for i in range(0, len(paths), size):
            pictures = [prepare(read_image(path, as_tensor=True)) for path in paths[i : i + size]]
            yield torch.stack([torch.as_tensor(picture) for picture in pictures])

    start = time.perf_counter()
    net.train()
    with torch.no_grad():
        for pixels in batches(asked["normals"]):
            net(pixels)
        model.fit()
    fit_s = time.perf_counter() - start
    net.eval()
    start = time.perf_counter()
    scores, maps = [], []
    with torch.inference_mode():
        for pixels in batches(asked["tests"]):
            prediction = net(pixels)
            scores.append(prediction.pred_score.reshape(-1).numpy())
            maps.append(prediction.anomaly_map[:, 0].numpy())
    score_s = time.perf_counter() - start
    np.save(out / "scores.npy", np.concatenate(scores))
    np.save(out / "maps.npy", np.concatenate(maps))
    channels = net.idx.tolist() if method == "padim" else None
    return {
        "method": method, "fit_s": fit_s, "score_s": score_s, "peak_mb": peak_mb(), "channels": channels,
        "coreset": counter.about,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("check", "speed", "accuracy"))
    parser.add_argument("--method", choices=tuple(LAYERS), required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--task", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--picks", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbours", type=int, default=9)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.what == "check":
        found = {"features_differ": largest_difference(given.method, given.weights)}
    elif given.what == "speed":
        found = speed(given.method, given.data, given.weights, given.workers, given.picks)
    else:
        found = accuracy(given.method, given.task, given.out, given.weights, given.seed, given.neighbours)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
