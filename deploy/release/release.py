"""The version that HEAD's tag names, and its notes from the changelog: what `make release` asks first.

    python deploy/release/release.py DIST     checks, writes DIST/notes.md, prints the version

Standard library only. The tag is vX.Y.Z, pyproject.toml has the same version, and CHANGELOG.md a section of it.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def release(root: Path, tags: list[str], dist: Path) -> str:
    """Check that tag, version and changelog agree, and write the notes.

    Args:
        root: of the repository.
        tags: of HEAD.
        dist: gets notes.md.

    Returns:
        The version.

    Raises:
        SystemExit: with the sentence that says what to do.
    """
    version = str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    if f"v{version}" not in tags:
        told = ", ".join(tags) or "none"
        sys.exit(f"pyproject.toml says {version}, and HEAD's tags are: {told}. Tag it: git tag -a v{version}")
    notes = section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if notes is None:
        sys.exit(f"CHANGELOG.md has no section of {version}: rename `## Unreleased` to `## {version} - DATE`.")
    dist.mkdir(parents=True, exist_ok=True)
    (dist / "notes.md").write_text(notes + "\n", encoding="utf-8")
    return version


def section(changelog: str, version: str) -> str | None:
    """What the changelog says of a version; None if it says nothing."""
    found = re.search(rf"^## \[?{re.escape(version)}\]?[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found and found[1].strip() else None


def tags_of_head(root: Path) -> list[str]:
    """Names of the tags that point at HEAD."""
    return _git(root, "tag", "--points-at", "HEAD").split()


def refuse_changes(root: Path) -> None:
    """End with a sentence unless the files are those of HEAD: the wheel and the image are made of the files.

    Raises:
        SystemExit: some are changed, or are neither git's nor ignored.
    """
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        named = ", ".join(line[3:] for line in changed[:3])
        sys.exit(f"the files are not those of the tag: {named}{more}. Commit or remove them, then tag again.")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    refuse_changes(ROOT)
    sys.stdout.write(release(ROOT, tags_of_head(ROOT), Path(sys.argv[1])) + "\n")
