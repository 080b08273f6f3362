"""A converted corpus goes to the Hub, which is shut for corpora that may not be passed on.

python -m dataset_scripts.push casme2 my-name/my-dataset
"""

import argparse
import sys
from pathlib import Path

from fedn_hf.hub import client
from fedn_hf.media_fedn import FednError

from .convert import read_settings
from .quirks import CorpusError


class LicenceError(CorpusError):
    """Something that the licence of a corpus forbids."""


def push(
    folder: str | Path, repo_id: str, *, private: bool = True, force: bool = False, token: str | None = None
) -> str:
    """
    Upload a converted corpus to a dataset repository of the Hub.

    Args:
        folder: what `dataset_scripts.convert.prepare` wrote.
        repo_id: "name/of-dataset".
        private: whether only its owner may see the repository.
        force: upload although the licence forbids to pass the corpus on; for those who have leave in writing.
        token: of the account; None takes the one of `hf auth login` or HF_TOKEN.

    Returns:
        The address of the commit.

    Raises:
        LicenceError: the licence forbids it, or the repository is public although a private one was asked for.
        CorpusError: not a finished conversion.
        HubError: the Hub refuses it or cannot be reached.
    """
    folder = Path(folder)
    settings, licence = read_settings(folder)
    if not (folder / "README.md").exists():
        raise CorpusError(f"{folder}: the conversion is not finished; run the same command again")
    if not licence.may_be_published and not force:
        raise LicenceError(
            f"{licence.corpus} may not be passed on, not even in a private repository, whose host is a third party. "
            f"Terms: {licence.terms} {licence.page} Have you leave in writing? Then force it"
        )
    with client(repo_id, token) as api:
        name = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
        if private and not api.dataset_info(name).private:
            raise LicenceError(f"{name} exists and is public; make it private in its settings, or choose another name")
        return str(
            api.upload_folder(
                repo_id=name,
                repo_type="dataset",
                folder_path=folder,
                ignore_patterns=[".convert/**"],
                commit_message=f"{settings['corpus']}, {len(list((folder / 'data').rglob('*.*')))} files",
            )
        )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dataset_scripts.push", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="a finished conversion")
    parser.add_argument("repo", help="name/of-dataset")
    parser.add_argument("--public", action="store_true", help="everybody may see it; else it is private")
    parser.add_argument("--force", action="store_true", help="you have leave in writing to pass the corpus on")
    given = parser.parse_args(arguments)
    try:
        print(push(given.folder, given.repo, private=not given.public, force=given.force))
    except FednError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


__all__ = ["LicenceError", "main", "push"]

if __name__ == "__main__":
    sys.exit(main())
