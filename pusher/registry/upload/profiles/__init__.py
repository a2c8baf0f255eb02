"""Describe how registries differ in uploads, one profile each, and detect which registry it is.

A profile only chooses the way of sending. An acknowledged offset is trusted only up to what was sent, and the
digest decides in the end: a wrong profile costs time, never correctness.
"""

from __future__ import annotations

from pusher.registry.upload.profiles.detect import by_name, detect, profile_after_break, stored_profile
from pusher.registry.upload.profiles.profile import GIB, KIB, MIB, Profile
from pusher.registry.upload.profiles.table import (
    ACR,
    ALIYUN,
    ARTIFACTORY,
    CHUNKED,
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    DOCKER_HUB,
    ECR,
    GHCR,
    GITEA,
    GITLAB,
    GOOGLE,
    HARBOR,
    MONOLITHIC,
    NEXUS,
    PROFILES,
    QUAY,
    SERVERLESS,
    ZOT,
)

__all__ = [
    "ACR",
    "ALIYUN",
    "ARTIFACTORY",
    "CHUNKED",
    "DEFAULT",
    "DISTRIBUTION",
    "DISTRIBUTION_2",
    "DISTRIBUTION_3",
    "DOCKER_HUB",
    "ECR",
    "GHCR",
    "GIB",
    "GITEA",
    "GITLAB",
    "GOOGLE",
    "HARBOR",
    "KIB",
    "MIB",
    "MONOLITHIC",
    "NEXUS",
    "PROFILES",
    "QUAY",
    "SERVERLESS",
    "ZOT",
    "Profile",
    "by_name",
    "detect",
    "profile_after_break",
    "stored_profile",
]
