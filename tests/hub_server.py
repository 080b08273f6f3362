"""A Hub of our own: the HTTP that huggingface_hub 2.x speaks, answered from memory by a server of this process.

It keeps what real pushes and pulls depend on: repositories with a history of immutable commits, branches and tags,
private repositories, tokens, large files that go to a second host by git-lfs's batch protocol, and the headers by
which the client tells one error from another. `fail` and `cut_uploads` make it fail on purpose.

It does not speak Xet, to which the client sends large files without asking where the package hf_xet is installed; so
every client of this server runs with `HF_HUB_DISABLE_XET=1`, which is the documented way to plain git-lfs.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
LFS_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LFS_BYTES = 10 * 2**20  # larger files go to git-lfs whatever their name
DATE = "2025-01-01T00:00:00.000Z"
REPO = r"(?P<repo>[^/]+/[^/]+)"
REV = r"(?P<rev>[^/]+)"
# Method, pattern of the path, and the kind of request, which is also the name of the method that answers it.
ROUTES = [
    (method, re.compile(path), kind)
    for method, path, kind in (
        ("GET", "/api/whoami-v2", "whoami"),
        ("POST", "/api/repos/create", "create"),
        ("POST", "/api/validate-yaml", "yaml"),
        ("GET", f"/api/models/{REPO}(?:/revision/{REV})?", "info"),
        ("GET", f"/api/models/{REPO}/tree/{REV}(?:/(?P<path>.+))?", "tree"),
        ("GET", f"/api/models/{REPO}/refs", "refs"),
        ("GET", f"/api/models/{REPO}/commits/{REV}", "commits"),
        ("POST", f"/api/models/{REPO}/branch/{REV}", "branch"),
        ("POST", f"/api/models/{REPO}/tag/{REV}", "tag"),
        ("POST", f"/api/models/{REPO}/preupload/{REV}", "preupload"),
        ("POST", f"/api/models/{REPO}/commit/{REV}", "commit"),
        ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", "batch"),
        ("POST", f"/{REPO}/verify", "verify"),
        ("HEAD", f"/{REPO}/resolve/{REV}/(?P<path>.+)", "resolve"),
        ("GET", f"/{REPO}/resolve/{REV}/(?P<path>.+)", "resolve"),
        ("PUT", "/storage/(?P<oid>[0-9a-f]{64})", "upload"),
        ("GET", "/storage/(?P<oid>[0-9a-f]{64})", "download"),
    )
]


class HubFailure(Exception):
    """An answer that is an error: status, words, and the code by which the client picks its exception."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None):
        super().__init__(message)
        self.status = status
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.headers = {name: value for name, value in headers.items() if value}


class Blob(NamedTuple):
    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        """What git calls the file: for large ones the id of the pointer that stands in for them."""
        content = self.content
        if self.lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n"
            content = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    parent: str | None
    files: dict[str, Blob]


class Repo:
    def __init__(self, private: bool):
        self.private = private
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.commit("main", {".gitattributes": Blob(LFS_ATTRIBUTES, lfs=False)}, "initial commit")

    def commit(self, branch: str, files: dict[str, Blob], title: str) -> Commit:
        parent = self.branches.get(branch)
        listing = sorted((name, blob.git_oid) for name, blob in files.items())
        sha = hashlib.sha1(repr((parent, title, listing, len(self.commits))).encode()).hexdigest()
        self.commits[sha] = Commit(sha, title, parent, dict(files))
        self.branches[branch] = sha
        return self.commits[sha]

    def at(self, revision: str = "main") -> Commit | None:
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def history(self, revision: str = "main") -> list[Commit]:
        """Newest first."""
        commit, past = self.at(revision), []
        while commit is not None:
            past.append(commit)
            commit = self.commits.get(commit.parent)
        return past


class HubServer:
    """A Hub at `url` while the context lasts.

    Two people have accounts: "user" with `token`, and "guest" with `guest_token`, who sees what is public and may
    write under guest/ only.

    Attributes:
        requests: how many requests of each kind have come; what matches no route counts under its path.
        agents: every User-Agent that was sent.
        repos: name -> `Repo`, for tests to look into.
        cut_uploads: so many of the next uploads of large files are cut off in the middle.
        lost_commits: so many of the next commits are made, and the answer never arrives.

    Example:
        with HubServer() as server:
            server.run_python("import huggingface_hub; huggingface_hub.create_repo('user/new')", home=tmp_path)
            assert "user/new" in server.repos
    """

    token = "hf_token_of_user"
    guest_token = "hf_token_of_guest"

    def __init__(self):
        self.names = {self.token: "user", self.guest_token: "guest"}
        self.repos: dict[str, Repo] = {}
        self.storage: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.cut_uploads = 0
        self.lost_commits = 0
        self.lock = threading.RLock()
        self.connections: set[socket.socket] = set()
        self._failing: list[tuple[str | None, HubFailure]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # Large files live on another host, as on the real Hub: a token must never be sent there.
        self.storage_url = f"http://localhost:{self.port}/storage"

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Be unreachable from now on."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self.lock:
            for connection in self.connections:  # the client keeps them open for its next request
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def fail(self, times: int = 1, status: int = 500, kind: str | None = None, code: str | None = None) -> None:
        """Answer the next `times` requests (of that kind) with an error."""
        failure = HubFailure(status, "Internal Error - We're working hard to fix this as soon as possible!", code)
        self._failing += [(kind, failure)] * times

    def take_failure(self, kind: str) -> HubFailure | None:
        with self.lock:
            for wanted, failure in self._failing:
                if wanted in (None, kind):
                    self._failing.remove((wanted, failure))
                    return failure
        return None

    def redirect(self, monkeypatch, home: Path) -> None:
        """Make the client of this process talk to this server, with an empty cache, no token, and no waiting."""
        from huggingface_hub import constants
        from huggingface_hub.utils import _http
        from huggingface_hub.utils.tqdm import progress_bar_states
        from transformers.utils import hub

        # transformers keeps a client that remembers the Hub of the test that used it first.
        monkeypatch.setattr(hub, "_hf_api", None)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        for name, value in {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setitem(progress_bar_states, "_global", False)

    def environment(self, home: Path, token: str | None = token) -> dict[str, str]:
        """What makes the client of another process talk to this server, with its cache in `home`."""
        found = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return found | {"NO_PROXY": "127.0.0.1,localhost"} | ({"HF_TOKEN": token} if token else {})

    def run_python(
        self, code: str, *args: object, home: Path, token: str | None = token, with_package: bool = True, **env: str
    ) -> str:
        """Run code in a fresh Python whose Hub is this server and whose cache is `home`, and give what it printed.

        `with_package=False` keeps fedn_hf off its path, to show that a checkpoint brings its own code.
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        clean |= self.environment(home, token) | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        if with_package:
            clean["PYTHONPATH"] = str(ROOT)
        else:
            clean.pop("PYTHONPATH", None)
            code = f"import sys; sys.modules['fedn_hf'] = None\n{code}"  # an installed copy does not count either
        ran = subprocess.run(
            [sys.executable, "-c", code, *map(str, args)],
            env=clean | env,
            cwd=home.parent,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for the client to confirm its head

    def setup(self):
        super().setup()
        with self.hub.lock:
            self.hub.connections.add(self.connection)

    def finish(self):
        with self.hub.lock:
            self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def answer(self):
        url = urlsplit(self.path)
        found = ((kind, pattern.fullmatch(url.path)) for method, pattern, kind in ROUTES if method == self.command)
        kind, match = next(((kind, match) for kind, match in found if match), (url.path, None))
        with self.hub.lock:
            self.hub.requests[kind] += 1
            self.hub.agents.add(self.headers.get("User-Agent", ""))
        try:
            if kind == "upload" and self.hub.cut_uploads:
                self.hub.cut_uploads -= 1
                self.rfile.read(int(self.headers["Content-Length"]) // 2)
                return self.hang_up()
            self.body = self.read_body()
            if failure := self.hub.take_failure(kind):
                raise failure
            if match is None:
                raise HubFailure(404, "Sorry, we can't find the page you are looking for.")
            fields = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            with self.hub.lock:
                answer = getattr(self, kind)(**fields)
            if kind == "commit" and self.hub.lost_commits:
                self.hub.lost_commits -= 1
                return self.hang_up()
            self.send(*answer)
        except HubFailure as failure:
            self.send({"error": str(failure)}, failure.status, failure.headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def send(self, answer: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        kind = "application/octet-stream" if isinstance(answer, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def who(self) -> str | None:
        """The name behind the token, or None without one."""
        authorization = self.headers.get("Authorization")
        if authorization is None:
            return None
        name = self.hub.names.get(authorization.removeprefix("Bearer "))
        if name is None:
            raise HubFailure(401, "Invalid credentials in Authorization header")
        return name

    def open(self, repo: str, write: bool = False) -> Repo:
        who, found = self.who(), self.hub.repos.get(repo)
        owner = repo.split("/")[0]
        if found is None or (found.private and who != owner):
            if who is None:
                raise HubFailure(401, "Invalid username or password.", "RepoNotFound")
            raise HubFailure(404, "Repository not found", "RepoNotFound")
        if write and who is None:
            raise HubFailure(401, "Invalid username or password.")
        if write and who != owner:
            raise HubFailure(403, "Authorization error.")
        return found

    def open_at(self, repo: str, rev: str) -> Commit:
        commit = self.open(repo).at(rev)
        if commit is None:
            raise HubFailure(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return commit

    # One method per kind of request. Each gives the answer, and where they are not the usual ones status and headers.

    def whoami(self):
        if (name := self.who()) is None:
            raise HubFailure(401, "Invalid username or password.")
        return {"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": "write"}}}, 200

    def create(self):
        wish, who = json.loads(self.body), self.who()
        if who is None:
            raise HubFailure(401, "Invalid username or password.")
        owner = wish.get("organization") or who
        if owner != who:
            raise HubFailure(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        repo = f"{owner}/{wish['name']}"
        url = f"{self.hub.url}/{repo}"
        if repo in self.hub.repos:
            return {"error": "You already created this model repo", "url": url}, 409
        self.hub.repos[repo] = Repo(private=wish.get("visibility") == "private")
        return {"url": url, "name": repo}, 200

    def yaml(self):
        errors = []
        if "\nlicense: [" in json.loads(self.body)["content"]:  # stands for whatever the real Hub would object to
            errors = [{"message": '"license" must be a string'}]
        return {"errors": errors, "warnings": []}, 400 if errors else 200

    def info(self, repo, rev="main"):
        commit = self.open_at(repo, rev)
        return {
            "id": repo,
            "modelId": repo,
            "author": repo.split("/")[0],
            "sha": commit.sha,
            "private": self.hub.repos[repo].private,
            "gated": False,
            "disabled": False,
            "lastModified": DATE,
            "createdAt": DATE,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": name} for name in sorted(commit.files)],
        }, 200

    def tree(self, repo, rev, path=None):
        commit = self.open_at(repo, rev)
        prefix = f"{path}/" if path else ""
        listing = [
            {"type": "file", "path": name, "size": len(blob.content), "oid": blob.git_oid}
            | ({"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}} if blob.lfs else {})
            for name, blob in sorted(commit.files.items())
            if name.startswith(prefix)
        ]
        if path and not listing:
            raise HubFailure(404, f"{path} does not exist on {rev!r}", "EntryNotFound", commit.sha)
        return listing, 200

    def refs(self, repo):
        found = self.open(repo)
        return {
            kind: [{"name": name, "ref": f"refs/{ref}/{name}", "targetCommit": sha} for name, sha in names.items()]
            for kind, ref, names in (
                ("branches", "heads", found.branches),
                ("tags", "tags", found.tags),
                ("converts", "convert", {}),
            )
        }, 200

    def commits(self, repo, rev):
        self.open_at(repo, rev)
        return [
            {"id": commit.sha, "title": commit.title, "message": "", "date": DATE, "authors": [{"user": "user"}]}
            for commit in self.hub.repos[repo].history(rev)
        ], 200

    def branch(self, repo, rev):
        found = self.open(repo, write=True)
        if rev in found.branches:
            raise HubFailure(409, f"Reference already exists: refs/heads/{rev}")
        found.branches[rev] = self.open_at(repo, json.loads(self.body).get("startingPoint", "main")).sha
        return {}, 200

    def tag(self, repo, rev):
        found, name = self.open(repo, write=True), json.loads(self.body)["tag"]
        if name in found.tags:
            raise HubFailure(409, f"Tag reference already exists: {name}")
        found.tags[name] = self.open_at(repo, rev).sha
        return {}, 200

    def preupload(self, repo, rev):
        self.open(repo, write=True)
        commit = self.open_at(repo, rev)
        attributes = commit.files.get(".gitattributes", Blob(b"", lfs=False)).content.decode()
        large = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs"
                    if file["size"] > LFS_BYTES or any(fnmatch(file["path"], pattern) for pattern in large)
                    else "regular",
                    "shouldIgnore": False,
                    "oid": commit.files[file["path"]].etag if file["path"] in commit.files else None,
                }
                for file in json.loads(self.body)["files"]
            ]
        }, 200

    def batch(self, repo):
        self.open(repo, write=True)
        objects = []
        for wish in json.loads(self.body)["objects"]:
            if wish["oid"] not in self.hub.storage:
                wish["actions"] = {
                    "upload": {"href": f"{self.hub.storage_url}/{wish['oid']}?signature=valid"},
                    "verify": {"href": f"{self.hub.url}/{repo}/verify"},
                }
            objects.append(wish)
        return {"transfer": "basic", "objects": objects}, 200

    def verify(self, repo):
        self.open(repo, write=True)
        wish = json.loads(self.body)
        if len(self.hub.storage.get(wish["oid"], b"")) != wish["size"]:
            raise HubFailure(404, "The object has not arrived")
        return {}, 200

    def upload(self, oid):
        self.refuse_token()
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubFailure(400, "The content is not what was announced")
        self.hub.storage[oid] = self.body
        return b"", 200, {"ETag": f'"{oid}"'}

    def commit(self, repo, rev):
        found = self.open(repo, write=True)
        if rev not in found.branches:
            raise HubFailure(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        parent = header["value"].get("parentCommit")
        if parent not in (None, found.branches[rev]):
            raise HubFailure(412, "A commit has happened since. Please refresh and try again.")
        files = dict(found.at(rev).files)
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
                case "lfsFile" if value["oid"] in self.hub.storage:
                    files[value["path"]] = Blob(self.hub.storage[value["oid"]], lfs=True)
                case "deletedFile" if value["path"] in files:
                    del files[value["path"]]
                case key:
                    raise HubFailure(400, f"{key}: {value['path']} is not there")
        commit = found.commit(rev, files, header["value"]["summary"])
        return {"commitUrl": f"{self.hub.url}/{repo}/commit/{commit.sha}", "commitOid": commit.sha}, 200

    def resolve(self, repo, rev, path):
        commit = self.open_at(repo, rev)
        if (blob := commit.files.get(path)) is None:
            raise HubFailure(404, "Entry not found", "EntryNotFound", commit.sha)
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"'}
        if not blob.lfs:
            return self.part_of(blob.content, headers)
        headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        self.hub.storage[blob.sha256] = blob.content
        return b"", 302, headers | {"Location": f"{self.hub.storage_url}/{quote(blob.sha256)}?signature=valid"}

    def download(self, oid):
        self.refuse_token()
        return self.part_of(self.hub.storage[oid], {"ETag": f'"{oid}"'})

    def part_of(self, content: bytes, headers: dict[str, str]):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return content, 200, headers | {"Accept-Ranges": "bytes"}
        start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if start > end:
            raise HubFailure(416, "Requested range not satisfiable")
        return content[start : end + 1], 206, headers | {"Content-Range": f"bytes {start}-{end}/{len(content)}"}

    def refuse_token(self) -> None:
        if "Authorization" in self.headers:
            raise HubFailure(400, "Only one auth mechanism allowed: the address is signed already")


__all__ = ["Blob", "Commit", "HubFailure", "HubServer", "Repo"]
