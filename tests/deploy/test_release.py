"""A release has one version: in the tag, in pyproject.toml and in the changelog."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

RELEASE = Path(__file__).parents[2] / "deploy" / "release" / "release.py"
CHANGELOG = """# Changelog

## Unreleased

- later

## 1.2.0 - 2026-01-02

### Added
- this

## 1.1.0 - 2025-01-01

- that
"""


@pytest.fixture
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", RELEASE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_the_notes_are_the_versions_own(release: ModuleType, root: Path) -> None:
    assert release.release(root, ["v1.2.0", "latest"], root / "dist") == "1.2.0"
    assert (root / "dist" / "notes.md").read_text() == "### Added\n- this\n"


def test_a_release_without_its_tag_is_refused(release: ModuleType, root: Path) -> None:
    with pytest.raises(SystemExit, match=r"git tag -a v1\.2\.0"):
        release.release(root, ["v1.1.0"], root / "dist")


def test_a_release_without_notes_is_refused(release: ModuleType, root: Path) -> None:
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- later\n")
    with pytest.raises(SystemExit, match=r"no section of 1\.2\.0"):
        release.release(root, ["v1.2.0"], root / "dist")


def test_a_release_of_files_that_are_not_the_tags_is_refused(release: ModuleType, root: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=root, check=True, capture_output=True
        )

    git("init")
    (root / ".gitignore").write_text("dist\n")
    git("add", ".")
    git("commit", "-m", "1.2.0")
    (root / "dist").mkdir()
    (root / "dist" / "notes.md").write_text("")
    release.refuse_changes(root)
    (root / "pyproject.toml").write_text('[project]\nversion = "1.2.0"  # later\n')
    (root / "new.py").write_text("")
    with pytest.raises(SystemExit, match=r"not those of the tag: pyproject\.toml, new\.py\. Commit"):
        release.refuse_changes(root)


def test_the_command_looks_at_the_files_first(root: Path) -> None:
    script = root / "deploy" / "release" / "release.py"
    script.parent.mkdir(parents=True)
    script.write_text(RELEASE.read_text())
    subprocess.run(["git", "init"], cwd=root, check=True, capture_output=True)
    done = subprocess.run([sys.executable, script, root / "dist"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the files are not those of the tag" in done.stderr
