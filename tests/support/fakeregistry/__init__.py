"""A fake registry on real sockets: the rules of real registries, and a script of faults.

with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
    registry.faults.add(Fault(On.CHUNK, ResetAfter(1500), nth=2))
    ...push to registry.address...
    registry.faults.assert_all_fired()
"""

from tests.support.fakeregistry.distribution import DISTRIBUTION_2, DISTRIBUTION_3
from tests.support.fakeregistry.faults import (
    Action,
    Answer,
    AnswerAfterEffect,
    BreakBody,
    CloseAfter,
    DropReply,
    Fault,
    ForgetSession,
    Front,
    LieRange,
    RefuseRange,
    ResetAfter,
    Script,
    Stall,
    StallBody,
    Trickle,
    bad_gateway,
    busy,
    too_large,
    unauthorized,
)
from tests.support.fakeregistry.hosted import ACR, ALIYUN, DOCKER_HUB, ECR, GHCR, GITLAB, GOOGLE
from tests.support.fakeregistry.routes import On
from tests.support.fakeregistry.rules import Rules
from tests.support.fakeregistry.selfhosted import (
    ARTIFACTORY,
    GITEA,
    HARBOR,
    NEXUS,
    QUAY,
    ZOT,
    ZOT_OLD,
)
from tests.support.fakeregistry.server import FakeRegistry, Record
from tests.support.fakeregistry.serverless import SERVERLESS
from tests.support.fakeregistry.storage import Blob, UploadSession

__all__ = [
    "ACR",
    "ALIYUN",
    "ARTIFACTORY",
    "DISTRIBUTION_2",
    "DISTRIBUTION_3",
    "DOCKER_HUB",
    "ECR",
    "GHCR",
    "GITEA",
    "GITLAB",
    "GOOGLE",
    "HARBOR",
    "NEXUS",
    "QUAY",
    "SERVERLESS",
    "ZOT",
    "ZOT_OLD",
    "Action",
    "Answer",
    "AnswerAfterEffect",
    "Blob",
    "BreakBody",
    "CloseAfter",
    "DropReply",
    "FakeRegistry",
    "Fault",
    "ForgetSession",
    "Front",
    "LieRange",
    "On",
    "Record",
    "RefuseRange",
    "ResetAfter",
    "Rules",
    "Script",
    "Stall",
    "StallBody",
    "Trickle",
    "UploadSession",
    "bad_gateway",
    "busy",
    "too_large",
    "unauthorized",
]
