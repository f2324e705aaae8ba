import subprocess
from pathlib import Path

import pytest

from alexnet.training import metadata


def test_the_patch_makes_another_clone_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's git is set to: new files, names with spaces, bytes that are not UTF-8."""
    repository, clone = tmp_path / "repository", tmp_path / "clone"
    inside = repository / "src" / "code"
    inside.mkdir(parents=True)
    (inside / "old.py").write_text("a = 1\n\n")
    (repository / "notes.txt").write_text("notes\n")

    def git(*arguments: str, cwd: Path = repository) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *who, *arguments], cwd=cwd, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("clone", "-q", str(repository), str(clone), cwd=tmp_path)
    for key, value in {"color.ui": "always", "diff.external": "false", "diff.noprefix": "true"}.items():
        git("config", key, value)
    monkeypatch.setattr(metadata, "HERE", inside)
    assert metadata.git_diff() is None
    (inside / "old.py").write_bytes("a = 'caf\xe9'\n\n".encode("latin-1"))
    (repository / "conf").mkdir()
    (repository / "conf" / "my own.yaml").write_text("lr: 1\n")
    (repository / "big data.bin").write_bytes(bytes(10))
    diff = metadata.git_diff()
    assert diff is not None
    assert "# not in git: big data.bin" in diff
    metadata.write(tmp_path / "git.diff", diff + "\n")
    git("apply", str(tmp_path / "git.diff"), cwd=clone)
    for name in ("src/code/old.py", "conf/my own.yaml"):
        assert (clone / name).read_bytes() == (repository / name).read_bytes()


def test_a_refusal_of_gits_is_said_once_with_its_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    code = tmp_path / "src"
    code.mkdir()
    monkeypatch.setattr(metadata, "HERE", code)
    assert metadata.git_refusal() is None, "no repository"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert metadata.git_refusal() is None, "a repository without a commit"
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    metadata._warn_of_git.cache_clear()
    metadata._warn_of_git()
    metadata._warn_of_git()
    (record,) = logged.records
    assert record.levelname == "WARNING"
    assert "safe.directory" in record.getMessage()
    monkeypatch.setenv("PATH", "")
    assert "git" in str(metadata.git_refusal()), "git is not installed"
