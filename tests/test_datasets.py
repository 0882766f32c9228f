"""Promises about what pictures are for: layouts, masks, copies and leaks, and files of numbers."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from adlib import datasets, intake, store
from adlib.arrays import arrays, is_known, one_class
from adlib.contract import DataError
from adlib.datasets import Role, guess, samples
from adlib.images import raw_mask
from worlds import part, png


def roles(*names: str) -> dict[str, tuple[str, str]]:
    return {folder: (role.role, role.kind) for folder, role in guess(names)[0].items()}


def said(*names: str) -> str:
    return str(guess(names)[1])


def picture(seed: int, side: int = 16) -> bytes:
    return png(part(seed, side=side)[0])


def mask(seed: int, side: int = 16, value: int = 255) -> bytes:
    values = np.zeros((side, side), np.uint8)
    values[seed % 8 : seed % 8 + 4, 4:8] = value
    return png(values)


def made(files: dict[str, bytes]) -> store.Dataset:
    dataset = store.Dataset.create("test", "upload")
    intake.take(dataset, intake.from_uploads(files.items()))
    return dataset


def counted(dataset: store.Dataset) -> dict[tuple[str, int | None, str], int]:
    return dict(Counter((s.split, s.label, s.kind) for s in samples(dataset)[0]))


def why(dataset: store.Dataset) -> dict[str, str]:
    return {one.name: str(one.reason) for one in samples(dataset)[1]}


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_flat_pictures_are_normals():
    assert roles("a.png", "b.png") == {"": ("normal", "good")}
    assert roles("parts/a.png", "parts/b.png") == {"parts": ("normal", "good")}
    assert roles("line 3/monday/a.png") == {"line 3/monday": ("normal", "good")}
    assert "all 2 pictures are taken as normal" in said("a.png", "b.png")


@pytest.mark.parametrize("word", ["good", "normal", "OK", "Normal", "良品"])
def test_other_folders_beside_good_are_kinds_of_defect(word):
    expected = {word: ("normal", "good"), "scratch": ("defect", "scratch"), "dent/deep": ("defect", "dent/deep")}
    assert roles(f"{word}/a.png", "scratch/b.png", "dent/deep/c.png") == expected
    around = roles(f"parts/{word}/a.png", "parts/scratch/b.png", "parts/dent/deep/c.png")
    assert around == {f"parts/{folder}": role for folder, role in expected.items()}


def test_masks_beside_good_are_known_by_their_folder():
    found = roles("good/a.png", "bad/b.png", "masks/b.png", "ground_truth/bad/b_mask.png")
    assert found["masks"][0] == found["ground_truth/bad"][0] == "mask"
    assert found["bad"] == ("defect", "bad")


def test_several_folders_without_a_word_are_classes_of_normals():
    assert roles("bolt/a.png", "nut/b.png") == {"bolt": ("normal", "bolt"), "nut": ("normal", "nut")}
    assert "2 folders" in said("bolt/a.png", "nut/b.png")


def test_a_word_for_bad_is_enough():
    assert roles("bolt/a.png", "defects/b.png") == {"bolt": ("normal", "bolt"), "defects": ("defect", "defects")}
    assert roles("broken/a.png") == {"broken": ("defect", "broken")}
    assert roles("a.png", "scratch/b.png") == {"": ("normal", "good"), "scratch": ("defect", "scratch")}


MVTEC = (
    "train/good/000.png", "test/good/000.png", "test/crack/000.png", "test/hole/000.png",
    "ground_truth/crack/000_mask.png", "ground_truth/hole/000_mask.png",
)  # fmt: skip


@pytest.mark.parametrize("around", ["", "bottle/", "data/mvtec/bottle/"])
def test_mvtec_ad(around):
    assert roles(*(around + name for name in MVTEC)) == {
        f"{around}train/good": ("normal", "good"),
        f"{around}test/good": ("test_normal", "good"),
        f"{around}test/crack": ("defect", "crack"),
        f"{around}test/hole": ("defect", "hole"),
        f"{around}ground_truth/crack": ("mask", "crack"),
        f"{around}ground_truth/hole": ("mask", "hole"),
    }
    assert "like MVTec AD: 1 normal" in said(*(around + name for name in MVTEC))


def test_mvtec_loco():
    found = roles(
        "train/good/000.png", "validation/good/000.png", "test/good/000.png", "test/logical_anomalies/000.png",
        "ground_truth/logical_anomalies/000/000.png", "ground_truth/logical_anomalies/000/001.png",
    )  # fmt: skip
    assert found == {
        "train/good": ("normal", "good"),
        "validation/good": ("normal", "good"),
        "test/good": ("test_normal", "good"),
        "test/logical_anomalies": ("defect", "logical_anomalies"),
        "ground_truth/logical_anomalies/000": ("mask", "logical_anomalies"),
    }
    assert "MVTec LOCO" in said("train/good/0.png", "test/logical_anomalies/0.png")


@pytest.mark.parametrize("around", ["", "candle/", "VisA/candle/"])
def test_visa(around):
    names = ("Data/Images/Normal/0.JPG", "Data/Images/Anomaly/0.JPG", "Data/Masks/Anomaly/0.png")
    assert roles(*(around + name for name in names)) == {
        f"{around}Data/Images/Normal": ("normal", "good"),
        f"{around}Data/Images/Anomaly": ("defect", "Anomaly"),
        f"{around}Data/Masks/Anomaly": ("mask", "Anomaly"),
    }
    assert "VisA" in said(*(around + name for name in names))


def test_aebad_keeps_the_domain_in_the_kind():
    assert roles(
        "AeBAD_S/train/good/background/0.png", "AeBAD_S/test/good/view/0.png", "AeBAD_S/test/ablation/view/0.png",
        "AeBAD_S/ground_truth/ablation/view/0.png",
    ) == {
        "AeBAD_S/train/good/background": ("normal", "background"),
        "AeBAD_S/test/good/view": ("test_normal", "view"),
        "AeBAD_S/test/ablation/view": ("defect", "ablation/view"),
        "AeBAD_S/ground_truth/ablation/view": ("mask", "ablation"),
    }  # fmt: skip


def test_goodsads_categories_become_classes_and_are_named():
    names = [f"{category}/{name}" for category in ("drink_can", "food_box") for name in MVTEC]
    found = roles(*names)
    assert found["drink_can/train/good"] == ("normal", "drink_can")
    assert found["food_box/test/good"] == ("test_normal", "food_box")
    assert found["food_box/test/crack"] == ("defect", "food_box/crack")
    assert found["drink_can/ground_truth/hole"][0] == "mask"
    assert "2 categories in one place (drink_can, food_box)" in said(*names)


def test_tests_that_come_later_without_their_root_are_no_second_category():
    found = roles("bottle/train/good/0.png", "test/crack/0.png")
    assert found == {"bottle/train/good": ("normal", "good"), "test/crack": ("defect", "crack")}


def test_class_folders_with_train_and_test_are_classes_of_normals():
    found = roles("train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/frog/0.png")
    assert found == {
        "train/cat": ("normal", "cat"), "train/dog": ("normal", "dog"),
        "test/cat": ("test_normal", "cat"), "test/frog": ("defect", "frog"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("good", "test", "defect"), [("good", "test", "crack"), ("良品", "テスト", "割れ"), ("OK品", "評価用", "NG品")]
)
def test_good_beside_test_is_what_to_learn_from(good, test, defect):
    found = roles(f"{good}/0.png", f"{test}/{good}/0.png", f"{test}/{defect}/0.png")
    assert [found[folder] for folder in (good, f"{test}/{good}", f"{test}/{defect}")] == [
        ("normal", "good"), ("test_normal", "good"), ("defect", defect),
    ]  # fmt: skip
    assert roles("train/good/0.png", f"{good}/0.png", "test/crack/0.png")[good][0] == "ignore"  # train says it already
    two = roles(*(f"{part}/{way}/0.png" for part in "ab" for way in (good, f"{test}/{defect}")))
    assert two[f"a/{good}"] == ("normal", "a")
    assert two[f"b/{test}/{defect}"] == ("defect", f"b/{defect}")


def test_japanese_words_for_train_test_and_mask_are_known():
    assert roles("学習用/良品/0.png", "テスト用/良品/0.png", "テスト用/傷/0.png", "マスク/傷/0.png") == {
        "学習用/良品": ("normal", "good"), "テスト用/良品": ("test_normal", "good"), "テスト用/傷": ("defect", "傷"),
        "マスク/傷": ("mask", "傷"),
    }  # fmt: skip


def test_what_no_layout_speaks_of_is_set_aside():
    found = roles(*MVTEC, "extra/prob33/a.png", "cover.png")
    assert found["extra/prob33"][0] == found[""][0] == "ignore"
    assert "2 left aside" in said(*MVTEC, "extra/prob33/a.png", "cover.png")
    assert roles("train/good/a.png", "test/b.png")["test"][0] == "ignore"  # nothing says which of them are good


def test_no_picture_at_all_is_no_layout():
    assert guess([])[0] == {}


# --- corrections ------------------------------------------------------------------------------------------------------


def test_a_corrected_role_counts_at_once_and_survives_later_uploads():
    dataset = made({"bolt/a.png": picture(1), "nut/b.png": picture(2)})
    datasets.correct(dataset, "nut", Role("defect", "wrong part"))
    assert counted(dataset) == {("train", 0, "bolt"): 1, ("test", 1, "wrong part"): 1}
    again = store.Dataset.open(dataset.id)
    intake.take(again, intake.from_uploads([("nut/c.png", picture(3)), ("screw/d.png", picture(4))]))
    assert counted(again)[("test", 1, "wrong part")] == 2
    assert counted(again)[("train", 0, "screw")] == 1


def test_an_uncorrected_role_is_guessed_anew_when_more_is_known():
    dataset = made({"bolt/a.png": picture(1), "nut/b.png": picture(2)})
    intake.take(dataset, intake.from_uploads([("good/c.png", picture(3))]))
    assert counted(dataset) == {("train", 0, "good"): 1, ("test", 1, "bolt"): 1, ("test", 1, "nut"): 1}


def test_a_corrected_role_changes_which_pictures_decide_what_is_white():
    dataset = made(
        {"a/1.png": png(np.full((16, 16), 900, np.uint16)), "b/2.png": png(np.full((16, 16), 9000, np.uint16))}
    )
    assert dataset.meta["white"] == 16383
    datasets.correct(dataset, "b", Role("ignore"))
    assert store.Dataset.open(dataset.id).meta["white"] == 1023


def test_an_unknown_folder_or_role_is_refused():
    dataset = made({"a/1.png": picture(1)})
    with pytest.raises(DataError, match="no folder 'b'"):
        datasets.correct(dataset, "b", Role("normal"))
    with pytest.raises(DataError, match="test_normal"):
        datasets.correct(dataset, "a", Role("better"))


def test_an_excluded_picture_takes_no_part_until_it_is_taken_back():
    dataset = made({"a/1.png": picture(1), "a/2.png": picture(2)})
    digest = samples(dataset)[0][0].digest
    datasets.exclude(dataset, digest)
    assert [s.name for s in samples(store.Dataset.open(dataset.id))[0]] == ["a/2.png"]
    assert samples(dataset)[1] == []
    datasets.exclude(dataset, digest, out=False)
    assert len(samples(store.Dataset.open(dataset.id))[0]) == 2


# --- copies and leaks -------------------------------------------------------------------------------------------------


def test_an_exact_copy_is_refused_and_names_the_other():
    dataset = made({"good/1.png": picture(1), "good/2.png": picture(1), "good/3.png": picture(3)})
    assert counted(dataset) == {("train", 0, "good"): 2}
    assert why(dataset) == {"good/2.png": "An exact copy of 'good/1.png'."}


@pytest.mark.parametrize("first", ["train", "test"])
def test_a_leak_stays_with_the_normals_whichever_came_first(first):
    files = {"train/good/1.png": picture(1), "test/good/x.png": picture(1), "test/cut/y.png": picture(1)}
    ordered = sorted(files.items(), key=lambda item: not item[0].startswith(first))
    dataset = made(dict(ordered))
    assert counted(dataset) == {("train", 0, "good"): 1}
    assert why(dataset).keys() == {"test/good/x.png", "test/cut/y.png"}
    assert all("among the normals" in reason for reason in why(dataset).values())


def test_equal_masks_are_no_copies():
    files = {f"test/cut/{i}.png": picture(i) for i in range(3)}
    files |= {f"ground_truth/cut/{i}_mask.png": mask(0) for i in range(3)} | {"train/good/9.png": picture(9)}
    dataset = made(files)
    assert samples(dataset)[1] == []
    assert sum(s.mask is not None for s in samples(dataset)[0]) == 3


# --- masks ------------------------------------------------------------------------------------------------------------

BASE = {"train/good/0.png": picture(90), "test/crack/0.png": picture(91), "test/hole/0.png": picture(92)}


@pytest.mark.parametrize("name", ["0_mask.png", "0.png", "0_mask.PNG", "0.bmp"])
def test_a_mask_is_found_by_its_pictures_name_and_place(name):
    dataset = made(BASE | {f"ground_truth/crack/{name}": mask(1), f"ground_truth/hole/{name}": mask(2)})
    found = {s.kind: s.mask for s in samples(dataset)[0]}
    assert found["good"] is None
    assert (raw_mask(found["crack"]) == raw_mask(mask(1))).all()
    assert (raw_mask(found["hole"]) == raw_mask(mask(2))).all()


def test_a_mask_never_goes_to_a_picture_of_another_kind():
    dataset = made(
        {"train/good/0.png": picture(1), "test/hole/0.png": picture(2), "ground_truth/crack/0_mask.png": mask(1)}
    )
    assert samples(dataset)[0][1].mask is None
    assert "No picture belongs to this mask" in why(dataset)["ground_truth/crack/0_mask.png"]


def test_locos_several_masks_of_a_picture_are_one():
    files = BASE | {"ground_truth/crack/0/000.png": mask(0, value=1), "ground_truth/crack/0/001.png": mask(6, value=9)}
    dataset = made(files)
    found = next(s.mask for s in samples(dataset)[0] if s.kind == "crack")
    assert (raw_mask(found) == raw_mask(mask(0)) | raw_mask(mask(6))).all()
    assert samples(dataset)[0] == samples(dataset)[0]


def test_visas_masks_of_small_numbers_are_found_and_read():
    dataset = made(
        {
            "Data/Images/Normal/0.JPG": picture(1),
            "Data/Images/Anomaly/0.JPG": picture(2),
            "Data/Masks/Anomaly/0.png": mask(1, value=2),
        }
    )
    found = next(s.mask for s in samples(dataset)[0] if s.label == 1)
    assert raw_mask(found).sum() == 16


def test_one_folder_of_masks_serves_all_kinds():
    dataset = made({"good/g.png": picture(1), "dent/a.png": picture(2), "cut/b.png": picture(3)} | {
        f"masks/{name}.png": mask(i) for i, name in enumerate("ab")
    })  # fmt: skip
    assert all((s.mask is not None) == (s.label == 1) for s in samples(dataset)[0])


def test_masks_of_a_folder_that_a_person_calls_masks_are_paired():
    dataset = made({"good/g.png": picture(1), "dent/a.png": picture(2), "drawn by ann/a.png": mask(1)})
    datasets.correct(dataset, "drawn by ann", Role("mask"))
    assert [s.mask is not None for s in samples(dataset)[0]] == [False, True]


def test_a_mask_beside_its_picture_is_a_mask():
    dataset = made({"good/g.png": picture(1), "dent/a.png": picture(2), "dent/a_mask.png": mask(1)})
    found = samples(dataset)[0]
    assert [s.name for s in found] == ["good/g.png", "dent/a.png"]
    assert found[1].mask is not None


def test_masks_that_cannot_be_used_are_refused_with_the_reason():
    dataset = made(BASE | {
        "ground_truth/crack/0_mask.png": mask(1, side=20), "ground_truth/crack/7_mask.png": mask(2),
        "masks/0.png": mask(3),
    })  # fmt: skip
    told = why(dataset)
    assert "20×20 but its picture is 16×16" in told["ground_truth/crack/0_mask.png"]
    assert "No picture belongs" in told["ground_truth/crack/7_mask.png"]
    assert "test/crack/0.png, test/hole/0.png" in told["masks/0.png"]
    assert all(s.mask is None for s in samples(dataset)[0])


def test_categories_keep_their_masks_apart():
    files = {}
    for i, category in enumerate(("can", "box")):
        files |= {f"{category}/{name}": picture(10 * i + j) for j, name in enumerate(MVTEC[:4])}
        files |= {f"{category}/ground_truth/crack/000_mask.png": mask(1 + i)}
    dataset = made(files)
    found = {s.kind: s.mask for s in samples(dataset)[0] if s.mask}
    assert {kind: raw_mask(path).tobytes() for kind, path in found.items()} == {
        "can/crack": raw_mask(mask(1)).tobytes(), "box/crack": raw_mask(mask(2)).tobytes(),
    }  # fmt: skip


# --- files of numbers -------------------------------------------------------------------------------------------------


def digits(n: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28)).astype(np.uint8), (np.arange(n) % 4).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def mnist_files(zipped: bool = False) -> dict[str, bytes]:
    (x, y), (tx, ty) = digits(), digits(8, 1)
    files = {
        "train-images-idx3-ubyte": idx(x), "train-labels-idx1-ubyte": idx(y),
        "t10k-images-idx3-ubyte": idx(tx), "t10k-labels-idx1-ubyte": idx(ty),
    }  # fmt: skip
    return {f"{name}.gz": gzip.compress(data) for name, data in files.items()} if zipped else files


def cifar_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (6, 3073)).astype(np.uint8)
    records[:, 0] = [0, 1, 9, 0, 1, 9]
    return {
        "data_batch_1.bin": records[:2].tobytes(),
        "data_batch_2.bin": records[2:4].tobytes(),
        "test_batch.bin": records[4:].tobytes(),
    }


def test_mnist_is_read_alike_from_npz_idx_and_gz(tmp_path):
    (x, y), (tx, ty) = digits(), digits(8, 1)
    from_npz = list(arrays(npz(x_train=x, y_train=y, x_test=tx, y_test=ty), "mnist.npz"))
    assert len(from_npz) == 20
    assert from_npz[0].name == "train/0/00000.png"
    assert (np.asarray(Image.open(io.BytesIO(from_npz[5].data))) == x[5]).all()
    assert from_npz[5].name == "train/1/00005.png"
    for zipped in (False, True):
        folder = tmp_path / str(zipped)
        folder.mkdir()
        for name, data in mnist_files(zipped).items():
            (folder / name).write_bytes(data)
        assert is_known(folder)
        assert list(arrays(folder)) == from_npz
        assert list(arrays(next(folder.iterdir()))) == from_npz
        assert [i.name for i in intake.from_folder(folder)] == [i.name for i in from_npz]


def test_mnist_files_can_be_uploaded_together_or_zipped():
    for files in (mnist_files(), mnist_files(zipped=True)):
        assert counted(made(files)) == counted(made({"mnist.npz": mnist_npz()}))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as out:
            for name, data in files.items():
                out.writestr(f"raw/{name}", data)
        assert len(samples(made({"mnist.zip": buffer.getvalue()}))[0]) == 20


def mnist_npz() -> bytes:
    (x, y), (tx, ty) = digits(), digits(8, 1)
    return npz(x_train=x, y_train=y, x_test=tx, y_test=ty)


def test_cifar_10s_binary_version_is_read_with_its_class_names(tmp_path):
    for name, data in cifar_files().items():
        (tmp_path / name).write_bytes(data)
    found = list(arrays(tmp_path))
    assert [item.name for item in found] == [
        "train/airplane/00000.png", "train/automobile/00001.png", "train/truck/00002.png", "train/airplane/00003.png",
        "test/automobile/00000.png", "test/truck/00001.png",
    ]  # fmt: skip
    record = np.frombuffer(cifar_files()["data_batch_1.bin"], np.uint8)[1:3073].reshape(3, 32, 32)
    assert (np.asarray(Image.open(io.BytesIO(found[0].data))) == record.transpose(1, 2, 0)).all()


def test_a_pickle_is_refused_and_the_way_out_is_told(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": 1}))
    with pytest.raises(DataError, match="binary version"):
        list(arrays(tmp_path))
    assert "binary version" in str(next(intake.from_folder(tmp_path)).reason)


@pytest.mark.parametrize(
    "data",
    [
        npz(x_train=np.zeros((3, 4, 4)), y_train=np.zeros(3, np.uint8)),
        npz(x_train=np.zeros((3, 8, 8), np.uint8), y_train=np.zeros(2, np.uint8)),
        npz(x_train=np.array([{"a": 1}], dtype=object), y_train=np.zeros(1, np.uint8)),
        npz(other=np.zeros(3)),
        mnist_npz()[:-200],
        b"no zip at all",
    ],
    ids=["floats", "lengths", "objects", "names", "cut", "text"],
)
def test_a_damaged_or_strange_npz_is_one_refusal(data):
    refused = list(intake.from_uploads([("mnist.npz", data), ("a.png", picture(1))]))
    assert sorted(type(one).__name__ for one in refused) == ["Item", "Refused"]
    assert "mnist.npz" in str(next(one.reason for one in refused if isinstance(one, intake.Refused)))


@pytest.mark.parametrize("spoil", ["pair", "cut", "claim", "cifar"])
def test_damaged_idx_and_cifar_files_are_refused(spoil):
    files = {
        "pair": {"train-images-idx3-ubyte": idx(digits()[0])},
        "cut": {**mnist_files(), "train-images-idx3-ubyte": idx(digits()[0])[:-5]},
        "claim": {**mnist_files(), "train-images-idx3-ubyte": bytes([0, 0, 8, 3]) + b"\xff" * 12},
        "cifar": {"data_batch_1.bin": bytes(3073 * 2 + 1)},
    }[spoil]
    refused = [one for one in intake.from_uploads(files.items()) if isinstance(one, intake.Refused)]
    assert len(refused) == 1


def test_one_is_normal_nine_is_not():
    items = list(arrays(mnist_npz(), "mnist.npz"))
    kept = Counter(item.name.rpartition("/")[0] for item in one_class(items, {"1"}, {"3"}))
    assert kept == {"train/good": 3, "test/good": 2, "test/3": 2}
    assert len({item.name for item in one_class(items, {"0", "1"})}) == 6 + 4 + 4
    kept = Counter(item.name.rpartition("/")[0] for item in one_class(items, {"1"}, limit_per_class=1))
    assert kept == {"train/good": 1, "test/good": 1, "test/0": 1, "test/2": 1, "test/3": 1}


# --- real sets --------------------------------------------------------------------------------------------------------

REAL = {  # train/good, test/good, other tests by kind, masks
    "magnetic_tile": (761, 191, {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}, 392),
    "cookies": (31, 14, {"broken": 32, "broken_nomask": 8}, 32),
    "elpv_mono": (441, 147, {"defective": 313}, 0),
    "mvtec_hazelnut_reduced": (50, 2, {"crack": 2, "cut": 2, "hole": 2, "print": 2}, 8),
    "mvtec_transistor_reduced": (50, 2, {"bent_lead": 2, "cut_lead": 2, "damaged_case": 2, "misplaced": 2}, 8),
    "piped_pa_brg03_tl": (32, 16, {"impurity": 48}, 48),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_set_is_read_to_the_last_picture(test_data, name):
    learn, good, kinds, masks = REAL[name]
    dataset = store.Dataset.create(name, "folder")
    intake.take(dataset, intake.from_folder(test_data / "datasets" / name), in_place=True)
    found, refused = samples(dataset)
    assert refused == []
    expected = {("train", 0, "good"): learn, ("test", 0, "good"): good}
    assert counted(dataset) == expected | {("test", 1, kind): n for kind, n in kinds.items()}
    assert sum(s.mask is not None for s in found) == masks
    assert all(s.mask.stem == f"{s.path.stem}_mask" for s in found if s.mask)


def test_mnist_itself_is_read(test_data):
    kept = Counter(
        item.name.rpartition("/")[0]
        for item in one_class(arrays(test_data / "datasets" / "mnist.npz"), {"1"}, {"9"}, limit_per_class=1010)
    )
    assert kept == {"train/good": 1010, "test/good": 1010, "test/9": 1009}


def test_cifar_10_as_class_folders_in_a_zip_is_read(test_data):
    items = list(intake.from_file(test_data / "datasets" / "cifar10_jpg_dev.zip"))
    assert len(items) == 13_000
    found, _ = guess(item.name for item in items)
    assert len(found) == 20
    assert found["train/cat"] == Role("normal", "cat")
    assert found["test/cat"] == Role("test_normal", "cat")
