"""Promises about taking files in: what is good is kept once, what is not is one refused line, and nothing ends the rest."""

from __future__ import annotations

import gc
import io
import os
import struct
import weakref
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from adlib import datasets, intake, sources, store
from adlib.contract import DataError, Stopped
from adlib.intake import Item, Refused, clean_name
from worlds import part, png, tree


def taken(*files: tuple[str, bytes], into: store.Dataset | None = None) -> tuple[store.Dataset, intake.Taken]:
    made = into or store.Dataset.create("test", "upload")
    return made, intake.take(made, intake.from_uploads(files))


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return buffer.getvalue()


def good(seed: int = 0) -> bytes:
    return png(part(seed, side=16)[0])


def names(items) -> list[str]:
    return [item.name for item in items if not isinstance(item, Refused)]


def reasons(items) -> dict[str, str]:
    return {item.name: str(item.reason) for item in items if isinstance(item, Refused)}


# --- taking -----------------------------------------------------------------------------------------------------------


def test_pictures_are_kept_bit_by_bit_under_their_content_hash():
    made, result = taken(("good/a.png", good(1)), ("good/b.png", good(2)))
    assert (result.added, result.refused) == (2, [])
    found, _ = datasets.samples(made)
    assert [s.path.read_bytes() for s in found] == [good(1), good(2)]
    assert all(s.path == made.folder / "pictures" / f"{s.digest}.png" for s in found)
    assert [s.name for s in found] == ["good/a.png", "good/b.png"]


def test_what_was_taken_is_there_again_after_a_restart():
    made, _ = taken(*tree().items())
    again = store.Dataset.open(made.id)
    assert datasets.samples(again) == datasets.samples(made)
    assert len(datasets.samples(again)[0]) == 20


def test_the_suffix_on_disk_is_that_of_the_real_format():
    buffer = io.BytesIO()
    Image.fromarray(part(0)[0]).save(buffer, "JPEG")
    made, _ = taken(("looks.png", buffer.getvalue()))
    assert datasets.samples(made)[0][0].path.suffix == ".jpg"


def test_several_uploads_add_up():
    made, _ = taken(("good/a.png", good(1)))
    _, second = taken(("scratch/x.png", good(2)), ("good/a.png", good(1)), into=made)
    assert second.added == 1
    assert {(s.kind, s.split) for s in datasets.samples(made)[0]} == {("good", "train"), ("scratch", "test")}
    assert [str(r.reason) for r in second.refused] == ["Already in this data set."]


def test_what_shows_only_in_the_whole_set_is_told_with_the_upload_that_brought_it():
    made, first = taken(("good/a.png", good(1)), ("good/copy.png", good(1)))
    assert first.added == 2
    assert [r.name for r in first.refused] == ["good/copy.png"]
    _, second = taken(("scratch/leak.png", good(1)), into=made)
    assert [r.name for r in second.refused] == ["scratch/leak.png"]
    assert "among the normals" in str(second.refused[0].reason)


def test_one_rule_for_16_bit_pictures_is_kept_with_the_set():
    dark, light = np.full((16, 16), 700, np.uint16), np.full((16, 16), 3000, np.uint16)
    made, _ = taken(("a.png", png(dark)), ("b.png", good()))
    assert made.meta["white"] == 1023
    taken(("c.png", png(light)), into=made)
    assert store.Dataset.open(made.id).meta["white"] == 4095


def test_a_masks_numbers_do_not_decide_what_is_white():
    mask = np.zeros((16, 16), np.uint16)
    mask[4:8] = 65535
    deep = np.full((16, 16), 3000, np.uint16)
    made, _ = taken(
        ("train/good/a.png", png(deep)), ("test/cut/b.png", png(deep + 1)), ("ground_truth/cut/b_mask.png", png(mask))
    )
    assert made.meta["white"] == 4095


def test_what_was_done_to_pictures_is_told_the_rarest_first():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(part(0)[0][..., 0]).save(buffer, "PNG", exif=exif)
    grey = [(f"{i}.png", png(part(i)[0][..., 0])) for i in range(1, 4)]
    made, result = taken(*grey, ("z.png", buffer.getvalue()))
    assert result.notes[0][0] == "z.png"
    assert "upright" in str(result.notes[0][1])
    assert len(result.notes) == 5
    assert made.meta["pictures"][0]["notes"] == [["Grey: the one channel serves as red, green and blue.", {}]]


def test_never_more_than_a_few_uploads_are_in_memory():
    class Upload(Item):
        pass

    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    def uploads():
        nonlocal most
        for i in range(40):
            item = Upload(f"{i}.png", good(i))
            alive.add(item)
            yield item
            del item
            gc.collect()
            most = max(most, len(alive))

    gc.collect()
    gc.freeze()  # what the libraries hold is not looked through again and again
    try:
        assert intake.take(store.Dataset.create("t", "upload"), uploads()).added == 40
    finally:
        gc.unfreeze()
    assert most <= 8


def test_stop_leaves_nothing_behind(workspace):
    seen = []

    def tick(fraction, message, /, **numbers):
        seen.append(fraction)
        if len(seen) == 5:
            raise Stopped

    made = store.Dataset.create("t", "upload")
    with pytest.raises(Stopped):
        intake.take(made, intake.from_uploads((f"{i}.png", good(i)) for i in range(20)), tick)
    assert not made.folder.exists()
    assert store.Dataset.all() == []


def test_stopping_a_second_upload_keeps_the_first_whole():
    made, _ = taken(*((f"{i}.png", good(i)) for i in range(3)))

    def tick(fraction, message, /, **numbers):
        if numbers["n"] == 3:
            raise Stopped

    with pytest.raises(Stopped):
        intake.take(made, intake.from_uploads((f"{i}.png", good(i)) for i in range(1, 9)), tick)
    again = store.Dataset.open(made.id)
    assert [s.path.read_bytes() for s in datasets.samples(again)[0]] == [good(i) for i in range(3)]
    assert len(list((made.folder / "pictures").iterdir())) == 3


def test_progress_rises_to_one():
    seen = []
    made = store.Dataset.create("t", "upload")
    items = intake.from_uploads((f"{i}.png", good(i)) for i in range(9))
    intake.take(made, items, lambda fraction, message, /, **n: seen.append((fraction, message.format(**n))), total=9)
    assert [f for f, _ in seen] == sorted(f for f, _ in seen)
    assert seen[-1] == (1.0, "took in 9 files")


# --- hostile files ----------------------------------------------------------------------------------------------------


def test_bad_files_are_refused_one_by_one_and_the_good_one_is_taken():
    picture = good()
    bad = {
        "cut.png": picture[: len(picture) // 2],
        "text.png": b"this is a text",
        "empty.jpg": b"",
        "icon.svg": b"<svg/>",
        "cat.gif": b"GIF89a",
        "phone.heic": b"\0\0\0\x18ftypheic",
        "cat.png": b"GIF89a" + bytes(20),
        "phone.jpg": b"\0\0\0\x18ftypheic" + bytes(20),
        "notes.txt": b"hello",
        "nothing": b"hello",
        "model.pkl": b"\x80\x04.",
        "broken.zip": b"PK\x03\x04 and no more",
    }
    _, result = taken(*bad.items(), ("fine.png", picture))
    assert result.added == 1
    told = reasons(result.refused)
    assert told.keys() == bad.keys()
    assert "damaged or cut off" in told["cut.png"]
    for name in ("icon.svg", "cat.gif", "phone.heic", "cat.png", "phone.jpg"):
        assert "Save the picture as PNG or JPEG" in told[name]
    assert "HEIC" in told["phone.jpg"]
    assert "pickle" in told["model.pkl"]


def test_a_huge_claim_is_refused_without_decoding():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    _, result = taken(("bomb.png", bomb), ("fine.png", good()))
    assert result.added == 1
    assert "megapixels" in str(result.refused[0].reason)


def test_what_systems_leave_behind_is_passed_over_in_silence():
    junk = ["__MACOSX/good/._a.png", "good/._a.png", "good/Thumbs.db", ".DS_Store", "good/.hidden.png", "desktop.ini"]
    _, result = taken(*((name, b"x") for name in junk), ("good/a.png", good()))
    assert (result.added, result.refused) == (1, [])
    _, result = taken(("all.zip", zipped(dict.fromkeys(junk, b"x") | {"good/a.png": good()})))
    assert (result.added, result.refused) == (1, [])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.png", "etc/passwd.png"),
        ("/abs/olute.png", "abs/olute.png"),
        ("C:\\Users\\me\\a.png", "Users/me/a.png"),
        ("..\\..\\up.png", "up.png"),
        ("a/./b//c.png", "a/b/c.png"),
        ("new\nline\x00\x1b[31m.png", "new\ufffdline\ufffd\ufffd[31m.png"),
        ("right\u202eto left.png", "right\ufffdto left.png"),
        ("**bold** [x](http://evil) `$x$`.png", "**bold** [x](http:/evil) `$x$`.png"),
        ("傷/部品 №7 (後).png", "傷/部品 №7 (後).png"),
        ("e\u0301.png", "é.png"),
        ("\udcff.png", "\ufffd.png"),
        ("", "unnamed"),
        ("..", "unnamed"),
    ],
)
def test_a_name_is_cleaned_for_display_and_else_kept(name, shown):
    assert clean_name(name) == shown


def test_an_endless_name_is_cut_and_keeps_its_type():
    assert len(clean_name("x" * 10_000 + ".png")) <= 80
    assert clean_name("x" * 10_000 + ".png").endswith(".png")
    assert len(clean_name("/".join("x" * 300 for _ in range(500)))) < 1000


def test_hostile_names_never_become_paths(workspace, tmp_path):
    hostile = ["../../../evil.png", "/tmp/evil.png", "..\\evil.png", "x" * 10_000 + ".png", "con.png"]
    made, result = taken(*((name, good(i)) for i, name in enumerate(hostile)))
    zip_made, zip_result = taken(("z.zip", zipped({name: good(i) for i, name in enumerate(hostile)})))
    assert (result.added, zip_result.added) == (5, 5)
    for folder in (made.folder, zip_made.folder):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.parent.name for path in files} == {"pictures", folder.name}
        assert len(files) == 6
    assert not list(tmp_path.parent.rglob("*evil*"))


# --- zips -------------------------------------------------------------------------------------------------------------


def test_a_zip_is_read_as_if_its_files_were_given_one_by_one():
    one, _ = taken(*tree(3, 2, 2).items())
    other, result = taken(("set.zip", zipped(tree(3, 2, 2), zipfile.ZIP_DEFLATED)))
    assert result.added == 9
    assert [s.name for s in datasets.samples(one)[0]] == [s.name for s in datasets.samples(other)[0]]


def test_flat_pictures_of_a_zip_get_its_name_as_their_folder():
    made, _ = taken(("good.zip", zipped({"1.png": good(1)})), ("scratch.zip", zipped({"1.png": good(2)})))
    assert {(s.label, s.kind) for s in datasets.samples(made)[0]} == {(0, "good"), (1, "scratch")}


def test_links_locks_bombs_and_zips_in_zips_are_refused():
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(link, "/etc/passwd")
        out.writestr("bomb.png", bytes(20 << 20))
        out.writestr("inner.zip", zipped({"a.png": good(1)}))
        out.writestr("locked.png", good(2))
        out.writestr("fine.png", good(3))
        out.writestr("readme.md", "hello")
    data = bytearray(buffer.getvalue())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # say of locked.png that it is encrypted
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            length = 30 if mark[2] == 3 else 46
            if data[at + length : at + length + 10] == b"locked.png":
                data[at + offset] |= 1
    items = list(intake.from_zip(io.BytesIO(bytes(data)), "set.zip"))
    assert names(items) == ["set/fine.png"]
    told = reasons(items)
    assert "link" in told["link.png"]
    assert "100 times" in told["bomb.png"]
    assert "archive within a zip" in told["inner.zip"]
    assert "password" in told["locked.png"]
    assert ".md" in told["readme.md"]


def test_a_zip_over_the_total_is_read_up_to_there(monkeypatch):
    monkeypatch.setattr(sources, "MAX_TOTAL", 3 * len(good(0)) + 200)
    items = list(intake.from_zip(io.BytesIO(zipped({f"a/{i}.png": good(0) for i in range(9)})), "set.zip"))
    assert 2 <= len(names(items)) <= 4
    assert "the rest was left" in reasons(items)["set.zip"]


def test_a_member_that_lies_about_its_size_is_refused_and_the_next_is_read():
    """Its header in the directory says 10 bytes; the data goes on."""
    data = bytearray(zipped({"a/liar.png": good(1), "a/fine.png": good(2)}))
    entry = data.find(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    items = list(intake.from_zip(io.BytesIO(bytes(data))))
    assert names(items) == ["a/fine.png"]
    assert "Damaged in the zip" in reasons(items)["a/liar.png"]


def test_too_many_or_too_large_files_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "MAX_FILES", 3)
    many = {f"{i}.png": good(i) for i in range(6)}
    items = list(intake.from_zip(io.BytesIO(zipped(many)), "set.zip"))
    assert not names(items)
    assert "More than 3 files" in reasons(items)["set.zip"]
    items = list(intake.from_uploads(many.items()))
    assert len(names(items)) == 3
    assert len(reasons(items)) == 1
    for name, data in many.items():
        (tmp_path / name).write_bytes(data)
    assert len(names(intake.from_folder(tmp_path))) == 3
    monkeypatch.setattr(sources, "MAX_FILE", 100)
    assert "over 0 MB" in reasons(intake.from_uploads([("a.png", good())]))["a.png"]
    assert "over 0 MB" in reasons(intake.from_zip(io.BytesIO(zipped({"a.png": good()}))))["a.png"]


@pytest.mark.parametrize("encoding", ["cp932", "utf-8"])
def test_names_in_a_zip_that_does_not_tell_its_script_are_read(encoding):
    """Such zips come from Windows in Japan, and from old macOS; the flag for UTF-8 is taken away to make one."""
    raw = "傷/部品.png".encode(encoding)
    data = bytearray(zipped({"x" * len(raw): good()}))
    data = data.replace(b"x" * len(raw), raw)
    assert names(intake.from_zip(io.BytesIO(bytes(data)))) == ["傷/部品.png"]


# --- folders ----------------------------------------------------------------------------------------------------------


def written(root, files: dict[str, bytes]):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_a_folder_is_read_in_place_without_a_copy(tmp_path):
    root = written(tmp_path / "set", tree(3, 2, 2))
    made = store.Dataset.create("t", "folder")
    assert intake.take(made, intake.from_folder(root), in_place=True).added == 9
    assert not any((made.folder / "pictures").iterdir())
    found, _ = datasets.samples(made)
    assert all(s.path == root / s.name for s in found)
    assert sum(s.mask is not None for s in found) == 2


def test_a_folder_may_hold_zips(tmp_path):
    root = written(tmp_path / "set", {"more.zip": zipped({"good/z.png": good(1)}), "good/a.png": good(2)})
    assert sorted(names(intake.from_folder(root))) == ["good/a.png", "good/z.png"]


def test_links_out_of_a_folder_are_followed_only_when_asked_to(tmp_path):
    elsewhere = written(tmp_path / "elsewhere", {"secret.png": good(1), "in/deep.png": good(2)})
    root = written(tmp_path / "set", {"a.png": good(3)})
    (root / "file.png").symlink_to(elsewhere / "secret.png")
    (root / "dir").symlink_to(elsewhere / "in")
    (root / "self.png").symlink_to(root / "a.png")
    (root / "round").symlink_to(root)
    (root / "dead.png").symlink_to(root / "nothing.png")
    items = list(intake.from_folder(root))
    assert sorted(names(items)) == ["a.png", "self.png"]
    assert reasons(items).keys() == {"dead.png", "dir", "file.png", "round"}
    followed = list(intake.from_folder(root, links=True))
    assert sorted(names(followed)) == ["a.png", "dir/deep.png", "file.png", "self.png"]


def test_only_the_opened_folder_can_be_asked_for(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="ADLIB_DATA"):
        intake.allowed_folder(str(tmp_path))
    root = tmp_path / "open"
    (root / "set").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "out").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("ADLIB_DATA", str(root))
    assert intake.allowed_folder("set") == root / "set"
    assert intake.allowed_folder(str(root / "set")) == root / "set"
    assert intake.allowed_folder(".") == root
    for asked in ("..", "../secret", str(tmp_path / "secret"), "out", "/etc", "nothing", "a\0b", "x" * 9999):
        with pytest.raises(DataError, match="There is no folder"):
            intake.allowed_folder(asked)


def test_a_single_file_can_be_given(tmp_path):
    written(tmp_path, {"a.png": good(1), "b.zip": zipped({"c/d.png": good(2)}), "e.txt": b"x"})
    assert names(intake.from_file(tmp_path / "a.png")) == ["a.png"]
    assert names(intake.from_file(tmp_path / "b.zip")) == ["c/d.png"]
    assert list(reasons(intake.from_file(tmp_path / "e.txt"))) == ["e.txt"]


def test_a_folder_that_cannot_be_written_is_a_sentence(workspace):
    made = store.Dataset.create("t", "upload")
    made.folder.parent.mkdir(parents=True)
    made.folder.write_bytes(b"a file where the folder should be")
    with pytest.raises(DataError, match="could not be written"):
        intake.take(made, intake.from_uploads([("a.png", good())]))


def test_taking_many_files_asks_the_same_of_each(monkeypatch):
    """Work per file must not grow with the files that are there: counted in stats and writes, not in seconds."""
    counts = []
    for n in (50, 200):
        calls = 0
        real = os.replace

        def counted(*args, real=real):
            nonlocal calls
            calls += 1
            return real(*args)

        monkeypatch.setattr(os, "replace", counted)
        taken(*((f"good/{i}.png", good(i)) for i in range(n)))
        monkeypatch.setattr(os, "replace", real)
        counts.append(calls)
    assert counts == [51, 201]
