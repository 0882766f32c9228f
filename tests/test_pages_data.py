"""The Data page: what comes in is counted, what does not is named, guesses can be corrected."""

from __future__ import annotations

import io
import logging
import zipfile

import pytest
from kit_pages import open_page, part, png, texts, tiny_dataset, tiny_items

from adlib import store


def zipped(items: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in items:
            archive.writestr(name, data)
    return out.getvalue()


def upload(at, *files: tuple[str, bytes]):
    for name, data in files:
        at.file_uploader("upload-files-0").upload(name, data, "application/octet-stream")
    return at.run()


def test_an_empty_workspace_says_what_will_appear_here():
    at = open_page("data").run()
    assert not at.exception
    assert "Your pictures will appear here" in at.info[0].value


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_data_set_is_shown_with_counts_and_split_and_no_deprecated_call(lang, caplog):
    dataset = tiny_dataset()
    with caplog.at_level(logging.WARNING):
        at = open_page("data", lang=lang, dataset=dataset.id).run()
    assert not at.exception
    assert [metric.value for metric in at.metric[:3]] == ["12", "4", "4"]
    assert not [r for r in caplog.records if "deprecat" in r.getMessage() or "will be removed" in r.getMessage()]


def test_a_zip_is_taken_in_at_once_and_its_buffer_let_go():
    at = upload(open_page("data").run(), ("plates.zip", zipped(tiny_items())))
    assert not at.exception
    (dataset,) = store.Dataset.all()
    assert dataset.title == "plates"
    assert at.session_state["dataset"] == dataset.id
    assert "taken in: 24" in at.success[0].value
    assert at.file_uploader("upload-files-1").value == [], "a new uploader stands in place of the full one"


def test_several_uploads_add_up_to_one_data_set():
    at = upload(open_page("data").run(), ("good/a.png", png(part(1))))
    at.file_uploader("upload-files-1").upload("good/b.png", png(part(2)), "image/png")
    at.run()
    (dataset,) = store.Dataset.all()
    assert len(dataset.meta["pictures"]) == 2


HOSTILE = [
    ("![x](https://evil.example/t.png).png", png(part(1))),
    ("../../etc/passwd.png", png(part(2))),
    ("cut.png", png(part(3))[:200]),
    ("text.png", b"hello"),
    ("script.svg", b"<svg onload='alert(1)'/>"),
    ("empty.jpg", b""),
    ("twice.png", png(part(1))),
    ("damaged.zip", b"PK\x03\x04 nonsense"),
]


def test_hostile_files_leave_the_page_standing_with_every_refusal_listed():
    at = upload(open_page("data").run(), *HOSTILE)
    assert not at.exception
    refused = at.dataframe[0].value["Picture"].tolist()
    assert {"cut.png", "text.png", "script.svg", "empty.jpg", "damaged.zip"} <= set(refused)
    assert "![x]" not in texts(at)
    (dataset,) = store.Dataset.all()
    assert all(".." not in row["file"] and "etc" not in row["file"] for row in dataset.meta["pictures"])


def test_an_upload_without_any_picture_leaves_no_data_set():
    at = upload(open_page("data").run(), ("text.png", b"hello"))
    assert store.Dataset.all() == []
    assert not at.exception


def test_a_guess_is_corrected_for_its_folder():
    dataset = tiny_dataset()
    at = open_page("data", dataset=dataset.id).run()
    at.selectbox(f"role-{dataset.id}-test/spot").set_value("ignore")
    next(button for button in at.button if button.label == "Save the corrections").click().run()
    folder = store.Dataset.open(dataset.id).meta["folders"]["test/spot"]
    assert (folder["role"], folder["corrected"]) == ("ignore", True)
    assert not at.exception
    assert [metric.value for metric in at.metric[:3]] == ["12", "4", "0"]


def test_a_sample_set_of_digits_comes_with_one_press():
    at = open_page("data")
    at.session_state["data-tab"] = "Sample sets"
    at.run()
    at.button("use-digits").click().run()
    assert not at.exception
    (dataset,) = store.Dataset.all()
    assert at.session_state["dataset"] == dataset.id


def test_a_digit_on_both_sides_gives_one_red_box():
    at = open_page("data")
    at.session_state["data-tab"] = "Sample sets"
    at.run()
    at.pills("digits-other").set_value([1]).run()
    at.button("use-digits").click().run()
    assert not at.exception
    assert len(at.error) == 1


def test_the_servers_folders_are_offered_only_when_the_operator_allows_it(monkeypatch, tmp_path):
    assert "Folder on the server" not in [tab.label for tab in open_page("data").run().tabs]
    (tmp_path / "plates").mkdir()
    for i in range(3):
        (tmp_path / "plates" / f"{i}.png").write_bytes(png(part(i)))
    monkeypatch.setenv("ADLIB_DATA", str(tmp_path))
    at = open_page("data")
    at.session_state["data-tab"] = "Folder on the server"
    at.run()
    at.button("take-folder").click().run()
    assert not at.exception
    assert len(store.Dataset.all()[0].meta["pictures"]) == 3


def test_a_data_set_is_renamed_and_deleted():
    dataset = tiny_dataset()
    at = open_page("data", dataset=dataset.id).run()
    at.text_input(f"name-{dataset.id}").set_value("Plates of Monday")
    at.button("save-name").click().run()
    assert store.Dataset.open(dataset.id).title == "Plates of Monday"
    at.button("delete-dataset").click().run()
    assert not at.exception
    assert store.Dataset.all() == []
    assert "“Plates of Monday” was deleted" in at.toast[0].value


def test_too_few_normals_give_one_red_box_and_the_pictures_are_still_shown():
    dataset = tiny_dataset(items=[("good/a.png", png(part(1)))])
    at = open_page("data", dataset=dataset.id).run()
    assert not at.exception
    assert "needs at least" in at.error[0].value


def test_normals_set_aside_as_tests_are_told():
    from adlib import intake
    from worlds import tree

    made = store.Dataset.create("good and spot", "upload")
    files = {n.replace("train/", "").replace("test/spot", "spot"): d for n, d in tree(normals=30, good=0).items()}
    intake.take(made, intake.from_uploads((n, d) for n, d in files.items() if "ground_truth" not in n))
    page = open_page("data", dataset=made.id).run()
    assert not page.exception
    assert any("kept out of the fit to measure false alarms" in each.value for each in page.markdown)
