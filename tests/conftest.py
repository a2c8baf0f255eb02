"""Every test starts from an empty environment and a home of its own."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections import OrderedDict

import pytest

from pusher import secret
from tests.support import same_examples

same_examples.load_profile()

# A shell ignores Ctrl-C for what it starts in the background, and what is started from there inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup; a handler is inherited by no program
    signal.signal(signal.SIGHUP, lambda *_: None)

_OURS = re.compile(
    r"PUSHER_(?!TEST_)|DOCKER_|USERNAME_REGISTRY$|INSECURE_HTTP_PUSH$|REGISTRY_AUTH_FILE$|.*_proxy$"
    r"|SSL_CERT_(FILE|DIR)$|(REQUESTS|CURL)_CA_BUNDLE$|PYTHONUNBUFFERED$",
    re.IGNORECASE,
)


@pytest.fixture(autouse=True)
def _hygiene(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if _OURS.match(name)]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TZ", "UTC")
    logging.getLogger("pusher").setLevel(logging.NOTSET)  # a command run in this process may have set it
    monkeypatch.setattr(secret, "_kept", {})  # those of the test before
    monkeypatch.setattr(secret, "_passing", OrderedDict())
