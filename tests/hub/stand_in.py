"""A model hub on loopback: what huggingface_hub asks of one, as far as models need it.

Repositories are kept in memory. Files that a hub keeps apart (weights, graphs, pictures) go through
the batch interface of Git LFS; the others lie in the commit. `ann` owns the names below `ann/`: her
token `ann-writes` may write, `ann-reads` may not. `bob` sees only what is public.
"""

import base64
import hashlib
import json
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

TOKENS = {"ann-writes": "ann", "ann-reads": "ann", "bob-writes": "bob"}
_APART = (".safetensors", ".onnx", ".npz", ".png")


def refused(status, code, message):
    headers = {"x-error-code": code, "x-error-message": message}
    return JSONResponse({"error": message}, status, {k: v for k, v in headers.items() if v})


class Repository:
    """Commits of one model: each a dict from file name to content."""

    def __init__(self, private):
        self.private, self.gated = private, False
        self.commits = {}
        self.branches = {}
        self.commit({".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, files):
        name = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[name] = files
        self.branches["main"] = name
        return name

    def find(self, revision):
        return revision if revision in self.commits else self.branches.get(revision)


class Hub:
    """Serves repositories until it is stopped.

    Attributes:
      repositories: by "owner/name".
      asked: "METHOD path" of every request.
      down: whether every answer is 503.
    """

    def __init__(self):
        self.repositories, self.stored, self.asked, self.down = {}, {}, [], False
        app = Starlette(
            routes=[
                Route("/api/whoami-v2", self.whoami),
                Route("/api/repos/create", self.create, methods=["POST"]),
                Route("/api/validate-yaml", self.validate, methods=["POST"]),
                Route("/api/models/{owner}/{name}", self.info),
                Route("/api/models/{owner}/{name}/revision/{revision}", self.info),
                Route(
                    "/api/models/{owner}/{name}/preupload/{revision}",
                    self.preupload,
                    methods=["POST"],
                ),
                Route(
                    "/api/models/{owner}/{name}/commit/{revision}", self.commit, methods=["POST"]
                ),
                Route("/{owner}/{name}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
                Route("/stored/{oid}", self.store, methods=["PUT"]),
                Route("/stored/{oid}", self.stored_file),
                Route("/{owner}/{name}/resolve/{revision}/{file:path}", self.resolve),
            ]
        )
        app = self._noting(app)
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._storage = (
            f"http://localhost:{port}/stored"  # Another host, as a hub has for large files.
        )
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(20)

    def _noting(self, app):
        async def noting(scope, receive, send):
            self.asked.append(f"{scope['method']} {scope['path']}")
            answer = refused(503, "", "down for maintenance") if self.down else app
            await answer(scope, receive, send)

        return noting

    def user(self, request: Request):
        """Name and right to write of who asks; (None, False) of nobody known."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return TOKENS.get(token), token.endswith("-writes")

    def repository(self, request):
        """Repository and refusal: one of them is None."""
        known = f"{request.path_params['owner']}/{request.path_params['name']}"
        found, (user, _) = self.repositories.get(known), self.user(request)
        if "authorization" in request.headers and user is None:
            return None, refused(401, "", "Invalid credentials in Authorization header")
        if found is None or (found.private and user != known.split("/")[0]):
            return None, refused(404 if user else 401, "RepoNotFound", "Repository not found")
        return found, None

    def may_write(self, request):
        user, writes = self.user(request)
        return writes and user == request.path_params["owner"]

    async def whoami(self, request):
        user, _ = self.user(request)
        if user is None:
            return refused(401, "", "Invalid credentials in Authorization header")
        return JSONResponse({"type": "user", "name": user, "orgs": []})

    async def create(self, request):
        wanted, (user, writes) = await request.json(), self.user(request)
        owner = wanted.get("organization") or user
        if not writes or owner != user:
            return refused(403, "", "You don't have the rights to create a model there")
        name = f"{owner}/{wanted['name']}"
        if name in self.repositories:
            return JSONResponse({"error": "exists", "url": f"{self.url}/{name}"}, 409)
        private = wanted.get("visibility") == "private" or wanted.get("private", False)
        self.repositories[name] = Repository(private)
        return JSONResponse({"url": f"{self.url}/{name}", "name": name})

    async def validate(self, request):
        content = (await request.json())["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no front matter"}]
        return JSONResponse({"errors": errors, "warnings": []})

    async def info(self, request):
        found, refusal = self.repository(request)
        if refusal:
            return refusal
        revision = found.find(request.path_params.get("revision", "main"))
        if revision is None:
            return refused(404, "RevisionNotFound", "Invalid rev id")
        names = [{"rfilename": name} for name in sorted(found.commits[revision])]
        known = f"{request.path_params['owner']}/{request.path_params['name']}"
        return JSONResponse(
            {"id": known, "sha": revision, "private": found.private, "siblings": names, "tags": []}
        )

    async def preupload(self, request):
        _, refusal = self.repository(request)
        if refusal:
            return refusal
        if not self.may_write(request):
            return refused(403, "", "Forbidden: pass a token that may write")
        entries = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_APART) else "regular",
                "shouldIgnore": False,
            }
            for file in (await request.json())["files"]
        ]
        return JSONResponse({"files": entries})

    async def batch(self, request):
        objects = []
        for wanted in (await request.json())["objects"]:
            upload = {"upload": {"href": f"{self._storage}/{wanted['oid']}"}}
            here = {} if wanted["oid"] in self.stored else {"actions": upload}
            objects.append(wanted | here)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def store(self, request):
        data = await request.body()
        if hashlib.sha256(data).hexdigest() != request.path_params["oid"]:
            return Response(status_code=400)
        self.stored[request.path_params["oid"]] = data
        return Response()

    async def stored_file(self, request):
        return Response(self.stored[request.path_params["oid"]])

    async def commit(self, request):
        found, refusal = self.repository(request)
        if refusal or not self.may_write(request):
            return refusal or refused(403, "", "Forbidden: pass a token that may write")
        files = dict(found.commits[found.branches["main"]])
        for line in (await request.body()).splitlines():
            entry = json.loads(line)
            kind, value = entry["key"], entry["value"]
            if kind == "header" and value.get("parentCommit") != found.branches["main"]:
                return refused(412, "", "A commit has happened since.")
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        name, params = found.commit(files), request.path_params
        return JSONResponse(
            {
                "success": True,
                "commitOid": name,
                "commitUrl": f"{self.url}/{params['owner']}/{params['name']}/commit/{name}",
                "pullRequestUrl": None,
            }
        )

    async def resolve(self, request):
        found, refusal = self.repository(request)
        if refusal:
            return refusal
        user, _ = self.user(request)
        if found.gated and user != request.path_params["owner"]:
            return refused(403 if user else 401, "GatedRepo", "Access to this model is restricted")
        revision = found.find(request.path_params["revision"])
        if revision is None:
            return refused(404, "RevisionNotFound", "Invalid rev id")
        name, commit = request.path_params["file"], {"x-repo-commit": revision}
        data = found.commits[revision].get(name)
        if data is None:
            answer = refused(404, "EntryNotFound", "Entry not found")
            answer.headers.update(commit)
            return answer
        if name.endswith(_APART):
            digest = hashlib.sha256(data).hexdigest()
            self.stored.setdefault(digest, data)
            linked = {"x-linked-etag": f'"{digest}"', "x-linked-size": str(len(data))}
            return RedirectResponse(f"{self._storage}/{digest}", 302, commit | linked)
        digest = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        headers = commit | {"etag": f'"{digest}"', "content-length": str(len(data))}
        return Response(b"" if request.method == "HEAD" else data, headers=headers)
