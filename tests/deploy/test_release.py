"""A release has one version: in the tag, in pyproject.toml and in the changelog."""

import importlib.util
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
