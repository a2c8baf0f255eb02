"""The page of a queue, on a real socket in this process; and what a browser or an attacker sends to it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import requests

from pusher.serve.access import Access, Login
from pusher.serve.app import make_app
from pusher.serve.metrics import Metrics
from pusher.serve.page.site import JobSite
from pusher.store.records import JobRecord
from tests.serve.served import listening
from tests.support.databases import new_job
from tests.support.home import Home
from tests.support.waiting import PATIENCE

HTML: Final = {"Accept": "text/html"}
EXAMPLE: Final = "docker push localhost:5055/registry.example.com/team/app:1.2"


class ServedPage:
    """A context manager: the page of the jobs in ``home``, which no worker works."""

    def __init__(self, folder: Path, *, login: Login | None = None, is_local: bool = True) -> None:
        self.home = Home(folder)
        self._access = Access(is_local, login)
        self.http = requests.Session()
        self.http.trust_env = False

    def __enter__(self) -> Self:
        self.site = JobSite(self.home.store, self.home.settings, EXAMPLE)
        app = make_app(None, self._access, Metrics(), site=self.site)
        self._context: AbstractContextManager[int] = listening(app)
        self.port = self._context.__enter__()
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self._context.__exit__(None, None, None)
        self.home.store.close()

    def add(self, **changes: Any) -> JobRecord:
        return self.home.store.jobs.add(new_job(**changes))

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        given = {"timeout": PATIENCE, "headers": HTML, "allow_redirects": False, **options}
        return self.http.request(method, f"{self.url}{path}", **given)

    def show(self, path: str = "/") -> str:
        """A page that must be there."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def token(self) -> str:
        """What the page's forms send; some job must have a button."""
        found = re.search(r'name="token" value="([^"]+)"', self.show())
        assert found is not None
        return found[1]

    def press(self, job_id: int, verb: str, **options: Any) -> requests.Response:
        data = {"token": self.token(), "back": f"/#job-{job_id}"}
        return self.ask("POST", f"/jobs/{job_id}/{verb}", **{"data": data, **options})
