"""adlib at the work that `peer.py` gives to its peer: in a process of its own, the last line of its output is JSON.

    python benchmarks/ours.py speed --method padim --data DIR --weights resnet18.safetensors [--precision fp32]
    python benchmarks/ours.py figures --method padim --data DIR --weights resnet18.safetensors
    python benchmarks/ours.py accuracy --method padim --task TASK.json --out DIR --weights resnet18.safetensors

`speed` times the detector as the workflow uses it (Batches decode, Detector.fit learns, Detector.score judges) and bare.
`figures` is the command line's fit and evaluate on a set in MVTec AD's layout: what a user gets, calibration included.
`accuracy` learns from and scores exactly the pictures it is told, and leaves scores.npy and maps.npy.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adlib import machine, registry, store
from adlib.batches import Batches, predictions
from adlib.contract import Backbone, Sample

SIZE = 256
SETTINGS = {"padim": {}, "patchcore": {"max_patches": 2_000_000}}  # as many patches as the peer holds


def samples(folder: Path, split: str) -> list[Sample]:
    return [sample(path, split) for path in sorted(folder.iterdir()) if path.is_file()]


def sample(path: Path, split: str) -> Sample:
    return Sample(path, 0, "good", None, split, path.name, path.name)


def speed(method: str, data: Path, weights: Path, precision: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """data: folder with train/good and test/good.  chosen: settings of the method beside those that equal the peer's."""
    import torch

    from adlib import features

    found: dict[str, Any] = {"method": method, "torch": torch.__version__, "threads": torch.get_num_threads()}
    found["start_mb"] = machine.peak_mb()
    usual = registry.card(method).stages
    backbone = features.resolve(Backbone("resnet18", size=SIZE, weights=str(weights), precision=precision), usual)
    found["precision"] = backbone.precision
    look = features.extractor(backbone)
    look(torch.zeros(2, 3, SIZE, SIZE))  # the first call builds the processor's kernels; the peer is warmed up likewise
    detector = registry.build(method, {**SETTINGS[method], **chosen}, backbone, seed=0)

    normals = Batches(samples(data / "train" / "good", "train"), SIZE)
    start, busy = time.perf_counter(), time.process_time()
    detector.fit(normals)
    found["fit_s"], found["fit_cpu_s"] = time.perf_counter() - start, time.process_time() - busy
    found["normals"] = len(normals)
    found["fit_peak_mb"] = machine.peak_mb()
    tests = Batches(samples(data / "test" / "good", "test"), SIZE)
    start = time.perf_counter()
    pictures = sum(len(prediction.scores) for prediction, _ in predictions(detector, tests))
    found["predict_ms"] = 1e3 * (time.perf_counter() - start) / pictures
    found["predicted"] = pictures
    found["peak_mb"] = machine.peak_mb()
    found["state_mb"] = sum(value.nbytes for value in detector.state().values()) / 2**20

    some = next(iter(tests)).pixels  # real ones: to noise no memory of normals has a neighbour
    plain = bare_network(backbone, weights)
    for batch, rounds in ((1, 25), (16, 7)):
        pixels = some[:batch].clone()
        detector.score(pixels)
        found[f"forward_ms_{batch}"] = median_ms(lambda x=pixels: detector.score(x), rounds) / batch
        found[f"extractor_ms_{batch}"] = median_ms(lambda x=pixels: look(x), rounds) / batch
        plain(pixels)
        found[f"network_ms_{batch}"] = median_ms(lambda x=pixels: plain(x), rounds) / batch
    return found


# --- accuracy ---------------------------------------------------------------------------------------------------------


def figures(
    method: str, data: Path, weights: str, name: str, precision: str, seed: int, chosen: dict[str, Any]
) -> dict[str, Any]:
    """data: a set with train, test and ground_truth.  The workspace is a temporary one."""
    from adlib.__main__ import main as command

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADLIB_WORKSPACE"] = folder
        asked = ["--method", method, "--seed", str(seed)]
        for key, value in chosen.items():
            asked += ["--set", f"{key}={value}"]
        if registry.uses_backbone(method):
            asked += ["--backbone", name, "--precision", precision, "--size", str(SIZE), "--weights", weights]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            codes = [command(["fit", "bench", "--normals", str(data / "train"), *asked])]
            codes += [command(["evaluate", "bench", "--test", str(data / "test"), "--json", f"{folder}/figures.json"])]
        if any(codes):
            raise RuntimeError(said.getvalue())
        card = store.Run.open("bench").card
        found: dict[str, Any] = json.loads(Path(folder, "figures.json").read_text())
        found.update(method=method, normals=card["normals"], state_mb=card["state_bytes"] / 2**20)
        found.update(backbone=card["backbone"], seconds=time.perf_counter() - started)
    return found


def accuracy(
    method: str, task: Path, out: Path, weights: str, precision: str, seed: int, chosen: Any
) -> dict[str, Any]:
    """task: JSON {"normals": [path], "tests": [path]}.  Writes into `out`, and says which channels PaDiM drew."""
    import numpy as np

    asked = json.loads(task.read_text())
    backbone = Backbone("resnet18", size=SIZE, weights=weights, precision=precision)
    detector = registry.build(method, {**SETTINGS[method], **chosen}, backbone, seed)
    start = time.perf_counter()
    detector.fit(Batches([sample(Path(path), "train") for path in asked["normals"]], SIZE))
    fit_s = time.perf_counter() - start
    start = time.perf_counter()
    tests = Batches([sample(Path(path), "test") for path in asked["tests"]], SIZE)
    parts = [prediction for prediction, _ in predictions(detector, tests)]
    score_s = time.perf_counter() - start
    np.save(out / "scores.npy", np.concatenate([part.scores for part in parts]))
    np.save(out / "maps.npy", np.concatenate([part.maps for part in parts if part.maps is not None]))
    channels = detector.state()["subset"].tolist() if method == "padim" else None
    return {"method": method, "fit_s": fit_s, "score_s": score_s, "peak_mb": machine.peak_mb(), "channels": channels}


# --- helpers ----------------------------------------------------------------------------------------------------------


def bare_network(backbone: Backbone, weights: Path) -> Callable[[Any], Any]:
    """A plain timm network of the same weights, stages, precision and memory layout: what scoring is compared with."""
    import timm
    import torch
    from safetensors.torch import load_file

    net = timm.create_model("resnet18", features_only=True, out_indices=backbone.stages, pretrained=False)
    state = {name: value.float() for name, value in load_file(weights).items()}
    net.load_state_dict({name: state[name] for name in net.state_dict() if name in state}, strict=False)
    dtype = torch.bfloat16 if backbone.precision == "bf16" else torch.float32
    net = net.eval().requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)

    def forward(pixels: Any) -> Any:
        with torch.inference_mode():
            return net(pixels.to(dtype, memory_format=torch.channels_last))

    return forward


def median_ms(call: Callable[[], Any], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return 1e3 * statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "figures", "accuracy"))
    parser.add_argument("--method", choices=tuple(registry.METHODS), required=True)
    parser.add_argument("--backbone", default="resnet18", help="for figures")
    parser.add_argument("--weights", default="")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--task", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="key=value")
    given = parser.parse_args()
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    chosen = dict(pair.split("=", 1) for pair in given.set)
    how = (given.precision, given.seed)
    if given.what == "speed":
        found = speed(given.method, given.data, Path(given.weights), given.precision, chosen)
    elif given.what == "figures":
        found = figures(given.method, given.data, given.weights, given.backbone, *how, chosen)
    else:
        found = accuracy(given.method, given.task, given.out, given.weights, *how, chosen)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
