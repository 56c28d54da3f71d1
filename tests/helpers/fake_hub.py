"""A model hub small enough to read: what huggingface_hub asks for when it pushes and loads a model.

Commits and downloads of plain and LFS files over HTTP, everything kept in memory:

    with FakeHub() as hub:
        subprocess.run([...], env=hub.environment(cache_folder))
        hub.repos["user/name"].files["config.json"]
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_tokenOfTheFakeHub"


LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "other")  # some of the hub's list
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def front_matter_errors(card: str) -> list[str]:
    """What the hub would refuse in a card's metadata: the fields that cards of this package fill."""
    data = yaml.safe_load(card.split("---\n")[1]) or {}
    errors = []
    if data.get("license") is not None and data["license"] not in LICENSES:
        errors.append(f"license must be one of {LICENSES}")
    if data.get("license") == "other" and not (data.get("license_name") and data.get("license_link")):
        errors.append("license other needs license_name and license_link")
    if "license_link" in data and not re.fullmatch(r"LICENSE(\.md)?|https?://\S+", data["license_link"]):
        errors.append("license_link must be LICENSE, LICENSE.md or a URL")
    if not re.fullmatch(r"[a-z0-9.-]+", data.get("license_name", "a")):
        errors.append("license_name must be lower-case letters, digits, '.' and '-'")
    for key in ("datasets", "base_model", "metrics", "tags"):
        values = data.get(key, [])
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or not all(isinstance(v, str) and HUB_NAME.fullmatch(v) for v in values):
            errors.append(f"{key} must be names without spaces")
    return errors


@dataclass
class Repo:
    """A model repository after its latest commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    commits: int = 0

    @property
    def commit(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


class FakeHub:
    """The server as a context manager; `requests` lists `METHOD path` in the order they came."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The variables of a process that is to use this hub and nothing else; `home` holds its cache."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return kept | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            **({"HF_TOKEN": token} if token else {}),
        }


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._read()
        parts = self._parts()
        if parts[:2] == ["api", "whoami-v2"]:
            return self._json(200, {"name": "user", "type": "user", "auth": {"type": "access_token"}})
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self._model(f"{parts[2]}/{parts[3]}", parts[4:])
        if len(parts) >= 5 and parts[2] == "resolve":
            return self._file(f"{parts[0]}/{parts[1]}", "/".join(parts[4:]))
        self._json(404, {"error": "unknown address"})

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.hub.blobs[self._parts()[-1]] = self._read()
        self._answer(200, b"")

    def do_POST(self) -> None:
        body, parts = self._read(), self._parts()
        if parts[:2] == ["api", "validate-yaml"]:
            errors = front_matter_errors(json.loads(body)["content"])
            return self._json(400 if errors else 200, {"errors": errors, "warnings": []})
        if parts[-3:] == ["info", "lfs", "objects"] or parts[-1] == "batch":
            return self._lfs_batch(json.loads(body))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json(401, {"error": "Invalid credentials"})
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts[0:1] == ["api"] and "preupload" in parts:
            files = json.loads(body)["files"]
            return self._json(200, {"files": [self._upload_mode(file) for file in files]})
        if parts[0:1] == ["api"] and "commit" in parts:
            return self._commit(f"{parts[2]}/{parts[3]}", body)
        self._json(404, {"error": "unknown address"})

    # --- pushing

    def _create(self, wanted: dict[str, object]) -> None:
        organization = wanted.get("organization") or "user"
        name = str(wanted["name"])
        repo_id = name if "/" in name else f"{organization}/{name}"
        known = repo_id in self.hub.repos
        repo_private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.hub.repos.setdefault(repo_id, Repo(repo_private))
        self._json(409 if known else 200, {"url": f"{self.hub.url}/{repo_id}", "name": repo_id})

    def _upload_mode(self, file: dict[str, str]) -> dict[str, object]:
        mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _lfs_batch(self, wanted: dict[str, list[dict[str, object]]]) -> None:
        objects = []
        for item in wanted["objects"]:
            upload = {"href": f"{self.hub.url}/blobs/{item['oid']}", "header": {}}
            known = item["oid"] in self.hub.blobs
            objects.append(item | ({} if known else {"actions": {"upload": upload}}))
        self._json(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo_id: str, body: bytes) -> None:
        repo = self.hub.repos[repo_id]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.blobs[value["oid"]]
                repo.lfs.add(value["path"])
        repo.commits += 1
        url = f"{self.hub.url}/{repo_id}/commit/{repo.commit}"
        self._json(200, {"success": True, "commitOid": repo.commit, "commitUrl": url, "hookOutput": ""})

    # --- loading

    def _model(self, repo_id: str, rest: list[str]) -> None:
        repo = self.hub.repos.get(repo_id)
        if repo is None:
            return self._missing("RepoNotFound")
        if rest[:1] == ["tree"]:
            return self._json(200, [self._tree_entry(repo, name) for name in sorted(repo.files)])
        siblings = [{"rfilename": name} for name in sorted(repo.files)]
        self._json(
            200,
            {"id": repo_id, "sha": repo.commit, "private": repo.private, "siblings": siblings, "tags": []},
        )

    def _tree_entry(self, repo: Repo, name: str) -> dict[str, object]:
        content = repo.files[name]
        entry: dict[str, object] = {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        if name in repo.lfs:
            entry["lfs"] = {
                "oid": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "pointerSize": 130,
            }
        return entry

    def _file(self, repo_id: str, name: str) -> None:
        repo = self.hub.repos.get(repo_id)
        if repo is None:
            return self._missing("RepoNotFound")
        if name not in repo.files:
            return self._missing("EntryNotFound", repo.commit)
        content = repo.files[name]
        digest = hashlib.sha256 if name in repo.lfs else hashlib.sha1
        headers = {"ETag": f'"{digest(content).hexdigest()}"', "X-Repo-Commit": repo.commit}
        self._answer(200, content, headers)

    # --- HTTP

    def _parts(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.split("/") if part]

    def _read(self) -> bytes:
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.headers.get("Transfer-Encoding") == "chunked":
            return self._read_chunks()
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _read_chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _missing(self, code: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} | ({"X-Repo-Commit": commit} if commit else {})
        self._answer(404, b'{"error": "not found"}', headers)

    def _json(self, status: int, content: object) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: `requests` holds what came."""
