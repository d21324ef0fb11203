"""What is seen of a corpus before an encoder is opened: the first row that can be stored, or that there is none."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memory_builder import BuildConfig, check_corpora, open_embeddings
from memory_builder.errors import ConfigError, NothingUsable


def pairs(folder: Path, *, broken: int, good: int) -> str:
    """A folder of pairs, the broken ones first."""
    folder.mkdir()
    for number in range(broken + good):
        stem = folder / f"{number:04}"
        stem.with_suffix(".txt").write_text("a bird")
        if number < broken:
            stem.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff")
        else:
            Image.new("RGB", (8, 8)).save(stem.with_suffix(".jpg"))
    return str(folder)


def look(tmp_path: Path, *corpora: str) -> str | None:
    return check_corpora(BuildConfig(corpora, tmp_path / "memory")).warning


def test_one_good_row_is_enough_and_no_more_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    known = "memory_builder.planning.first_look.decode_image"
    monkeypatch.setattr(known, lambda data: read.append(len(data)))
    assert look(tmp_path, pairs(tmp_path / "a", broken=0, good=5)) is None
    assert len(read) == 1


def test_broken_rows_before_a_good_one_are_no_news(tmp_path: Path) -> None:
    assert look(tmp_path, pairs(tmp_path / "a", broken=63, good=1)) is None


def test_a_large_corpus_that_begins_badly_is_built_with_a_warning(tmp_path: Path) -> None:
    told = look(tmp_path, pairs(tmp_path / "a", broken=64, good=1))
    assert told is not None
    assert told.startswith("None of the first 64 rows can be stored: 64 image_")
    assert "The first: a/0000.jpg (a/0000), image_" in told


def test_a_corpus_of_broken_rows_alone_is_refused(tmp_path: Path) -> None:
    broken, good = pairs(tmp_path / "a", broken=3, good=0), pairs(tmp_path / "b", broken=0, good=1)
    with pytest.raises(NothingUsable, match=r"None of the 3 rows can be stored.*The first: a/.* \(a/.*\), .*: .*\w\. "):
        look(tmp_path, broken)
    assert look(tmp_path, broken, good) is None
    more = tmp_path / "more.txt"
    more.write_text("b\n")
    told = look(tmp_path, broken, str(more))  # a list is read by the build alone
    assert told is not None and "None of the 3 rows" in told


def test_a_caption_without_an_image_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("a bird")
    with pytest.raises(NothingUsable, match="The only row cannot be stored: 1 missing_image"):
        look(tmp_path, str(tmp_path / "a"))


def images(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return str(folder)


def test_class_folders_are_told_by_their_listing_with_what_would_work(tmp_path: Path) -> None:
    many = images(tmp_path / "classes", *(f"{kind}/{n}.jpg" for kind in ("kiwi", "plum") for n in range(40)))
    with pytest.raises(NothingUsable, match=r"No image of .*/classes has a caption.*--caption-from-folder 'a photo"):
        look(tmp_path, many)
    (tmp_path / "classes/plum/39.txt").write_text("a plum")
    told = look(tmp_path, many)
    assert told is not None and "caption-from-folder" not in told  # one has a caption: the build may go on
    config = BuildConfig((many,), tmp_path / "memory", folder_templates=("a photo of a {}.",))
    assert check_corpora(config).usable


def test_a_table_that_lies_beside_the_images_is_named(tmp_path: Path) -> None:
    shop = images(tmp_path / "my shop", *(f"{n}.jpg" for n in range(70)))
    (tmp_path / "my shop/products.csv").write_text("path,caption\n0.jpg,a mug\n")
    with pytest.raises(NothingUsable) as told:
        look(tmp_path, shop)
    assert f"reco build '{shop}/products.csv' -o MEMORY." in told.value.message
    assert "caption-from-folder" not in told.value.message
    other = images(tmp_path / "other", "a.jpg")
    with pytest.raises(NothingUsable, match=r"products\.csv.*other has a caption beside it\. Put one beside each"):
        look(tmp_path, shop, other)


def test_captions_from_folders_are_refused_where_there_is_none(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,caption\na.png,a mug\n")
    config = BuildConfig((str(tmp_path / "t.csv"),), tmp_path / "memory", folder_templates=("a photo of a {}.",))
    with pytest.raises(ConfigError, match="--caption-column"):
        check_corpora(config)
    check_corpora(replace(config, corpora=(f"{tmp_path.parent}/{tmp_path.name}*",)))


def test_columns_are_refused_where_there_is_no_table(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a mug")
    (tmp_path / "t.csv").write_text("path,caption,sku\na.png,a mug,1\n")
    config = BuildConfig((str(tmp_path),), tmp_path / "memory", key_column="sku", caption_column="caption")
    with pytest.raises(ConfigError, match="caption_column and key_column name columns of tables"):
        check_corpora(config)
    check_corpora(replace(config, corpora=(str(tmp_path), str(tmp_path / "t.csv"))))
    (tmp_path / "all.txt").write_text("t.csv\n")
    check_corpora(replace(config, corpora=(str(tmp_path), str(tmp_path / "all.txt"))))


@pytest.mark.parametrize("option", ["image_columns", "caption_column", "key_column", "folder_templates"])
def test_what_cached_embeddings_have_not_is_refused(tmp_path: Path, option: str) -> None:
    np.savez(tmp_path / "a.npz", image=np.eye(4), text=np.eye(4), caption=np.array(list("abcd")))
    value = ("x {}",) if option.endswith("s") else "sku"
    config = BuildConfig((str(tmp_path / "a.npz"),), tmp_path / "memory", **{option: value})
    with pytest.raises(ConfigError, match=f"{option}: cached embeddings"):
        open_embeddings(config)


@pytest.mark.parametrize("count", [5, 90])
def test_a_tar_whose_pairs_lie_apart_is_told_how_to_be_packed(tmp_path: Path, count: int) -> None:
    folder = Path(pairs(tmp_path / "a", broken=0, good=count))

    def packed(name: str, files: list[Path]) -> str:
        with tarfile.open(tmp_path / name, "w") as tar:
            for file in files:
                tar.add(file, file.name)
        return str(tmp_path / name)

    images, captions = sorted(folder.glob("*.jpg")), sorted(folder.glob("*.txt"))
    apart = packed("apart.tar", [*images, *captions])
    with pytest.raises(NothingUsable, match=r"In apart\.tar an image and its caption do not follow.*--sort=name"):
        look(tmp_path, apart)
    assert look(tmp_path, packed("sorted.tar", sorted([*images, *captions]))) is None
    without = [packed("images.tar", images), packed("late.tar", [*images, *captions[:-1], images[-1], captions[-1]])]
    for tar in without:  # nothing to find, or a pair that is whole: no such advice
        try:
            told = look(tmp_path, tar) or ""
        except NothingUsable as refused:
            told = refused.message
        assert "--sort=name" not in told


def test_columns_that_nobody_named_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "shop.csv").write_text("name,title,image\nA mug,mug,a.png\n")
    config = BuildConfig((str(tmp_path / "shop.csv"), str(tmp_path)), tmp_path / "memory")
    (tmp_path / "a.txt").write_text("a mug")
    assert check_corpora(config).columns == ("shop: captions from the column 'title', images from the column 'image'",)
    assert check_corpora(replace(config, caption_column="name")).columns == ("shop: images from the column 'image'",)
    named = replace(config, caption_column="name", image_columns=("image",))
    assert check_corpora(named).columns == ()
