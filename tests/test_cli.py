"""The command line as a person or a script uses it: exit codes, one sentence for an error, JSON for machines."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from adlib import registry
from adlib.__main__ import main
from conftest import ROOT
from worlds import tree


@pytest.fixture
def parts(tmp_path):
    """An MVTec AD tree on disk."""
    folder = tmp_path / "disc"
    for name, data in tree(normals=10).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_fit_evaluate_score_from_end_to_end(parts, tmp_path, capsys):
    (parts / "train/good/broken.png").write_bytes(b"not a picture")
    assert (
        main(
            [
                "fit",
                "disc",
                "--normals",
                str(parts / "train/good"),
                "--method",
                "padim",
                "--set",
                "channels=20",
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["normals"]["fitted"] == 10
    assert [r["name"] for r in told["refused"]] == ["broken.png"]

    figures = tmp_path / "figures.json"
    assert main(["evaluate", "disc", "--test", str(parts / "test"), "--json", str(figures)]) == 0
    report = json.loads(figures.read_text())
    wanted = "image_auroc image_ap image_f1_oracle pixel_auroc aupro threshold fpr tpr n_normal n_defect ms_per_image"
    assert set(wanted.split()) | {"fit_seconds", "peak_mb", "skipped"} <= set(report)
    assert (report["n_normal"], report["n_defect"]) == (4, 4)
    assert report["pixel_auroc"] is not None  # the masks beside `test` were found

    sheet, heat = tmp_path / "scores.csv", tmp_path / "heat"
    capsys.readouterr()
    assert main(["score", "disc", str(parts / "test"), "--csv", str(sheet), "--heatmaps", str(heat)]) == 0
    with open(sheet, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert set(rows[0]) == {"path", "score", "normalised", "threshold", "verdict"}
    assert {r["verdict"] for r in rows} <= {"normal", "defect"}
    assert len(list(heat.glob("*.png"))) == 8


def test_rules_are_compared_and_one_is_kept(parts, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    evaluate = ["evaluate", "r", "--test", str(parts / "test"), "--json", str(figures)]
    assert main(["fit", "r", "--normals", str(parts / "train/good"), "--method", "pixel_median"]) == 0
    capsys.readouterr()
    assert main([*evaluate, "--rules", "--rule", "cost", "--miss", "50", "--share", "0.02"]) == 0
    out = capsys.readouterr().out
    assert "oracle: chosen on these tests" in out
    assert "a miss costs 50" in out
    assert "chi2        cannot be used: " in out
    told = json.loads(figures.read_text())
    assert (told["rule"]["key"], told["rule"]["oracle"]) == ("cost", True)
    assert told["threshold"] == told["rule"]["value"]
    by_key = {one["key"]: one for one in told["rules"]}
    assert by_key["cost"]["basis"] == "folds"
    assert "one Gaussian" in by_key["chi2"]["why_not"]
    assert set(told["intervals"]) >= {
        "image_auroc",
        "image_ap",
        "image_f1_oracle",
        "f1",
        "fpr",
        "tpr",
        "pixel_auroc",
        "aupro",
    }
    assert any("only 4 good tests" in doubt for doubt in told["doubts"])
    assert main([*evaluate, "--rule", "learned"]) == 0
    assert json.loads(figures.read_text())["rule"]["key"] == "quantile"
    assert main([*evaluate, "--rule", "chi2"]) == 1
    assert "follows no chi-square law" in capsys.readouterr().err


def test_every_labelled_picture_of_a_test_folder_is_a_test(parts, tmp_path):
    """Good ones beside defects would be taken for normals to learn from, were they a data set of their own."""
    checks, figures = tmp_path / "checks", tmp_path / "figures.json"
    for name, data in tree(normals=0, good=14, broken=5, seed=7000).items():
        if name.startswith("test/"):
            (checks / name[5:]).parent.mkdir(parents=True, exist_ok=True)
            (checks / name[5:]).write_bytes(data)
    assert main(["fit", "r", "--normals", str(parts / "train/good"), "--method", "pixel_median"]) == 0
    assert main(["evaluate", "r", "--test", str(checks), "--json", str(figures)]) == 0
    report = json.loads(figures.read_text())
    assert (report["n_normal"], report["n_defect"]) == (14, 5)


def test_a_run_may_lie_anywhere(parts, tmp_path):
    place = tmp_path / "elsewhere" / "run"
    assert main(["fit", str(place), "--normals", str(parts), "--method", "pixel_median"]) == 0
    assert (place / "run.json").exists()
    assert main(["evaluate", str(place), "--test", str(parts)]) == 0


def test_fitting_again_under_the_same_name_replaces_the_run(parts):
    for seed in ("0", "1"):
        assert main(["fit", "again", "--normals", str(parts), "--method", "pixel_median", "--seed", seed]) == 0
    from adlib import store

    assert store.Run.open("again").card["seed"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "r", "--normals", "nowhere"], "'nowhere' does not exist"),
        (["fit", "r", "--normals", ".", "--method", "magic"], "no method called 'magic'"),
        (["fit", "r", "--normals", ".", "--set", "coreset=7"], "'coreset' cannot be '7'"),
        (["fit", "r", "--normals", ".", "--set", "coresett=0.1"], "no setting 'coresett'"),
        (["fit", "r", "--normals", ".", "--set", "coreset"], "not key=value"),
        (["evaluate", "nobody", "--test", "."], "no run 'nobody'"),
        (["score", "nobody", "x.png"], "no run 'nobody'"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_code_1(arguments, sentence, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_a_folder_with_other_files_is_never_taken_for_a_run(parts, capsys):
    assert main(["fit", str(parts), "--normals", str(parts), "--method", "pixel_median"]) == 1
    assert "holds other files" in capsys.readouterr().err
    assert (parts / "train/good/000.png").exists()


def test_a_mistyped_command_is_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "adlib", "fitt"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


def test_missing_weights_name_the_ways_to_get_them(parts, capsys):
    assert main(["fit", "r", "--normals", str(parts), "--backbone", "resnet18"]) == 1
    error = capsys.readouterr().err
    assert "ADLIB_WEIGHTS" in error
    assert "offline" in error


def test_methods_lists_every_method_with_its_settings(capsys):
    assert main(["methods", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [m["key"] for m in told] == list(registry.METHODS)
    assert all(s["help"] for m in told for s in m["settings"])


def test_weights_lists_the_offline_backbone_as_ready(capsys):
    assert main(["weights", "--json"]) == 0
    told = {w["name"]: w for w in json.loads(capsys.readouterr().out)}
    assert told["offline"]["ready"]


def test_real_weights_are_used_where_they_lie(parts, test_data, capsys):
    arguments = [
        "--method",
        "patchcore",
        "--backbone",
        "resnet18",
        "--weights",
        str(test_data / "weights"),
        "--size",
        "96",
    ]
    assert main(["fit", "r18", "--normals", str(parts), *arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["backbone"]["stages"] == [2, 3]
    from adlib import store

    assert store.Run.open("r18").card["weights"]["sha256"].startswith("e3d6a6ca")
