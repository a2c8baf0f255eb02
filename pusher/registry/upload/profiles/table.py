"""List the profiles of known registries, with the source of each."""

from __future__ import annotations

from typing import Final

from pusher.registry.upload.profiles.profile import GIB, MIB, Profile

SERVERLESS: Final = Profile(
    # src/chunk.ts and src/registry/r2.ts at cloudflare/serverless-registry@5f97b0e; a layer is finally copied
    # with one R2 put, which takes 5 GiB (https://github.com/cloudflare/serverless-registry/issues/69)
    name="serverless-registry",
    title="Cloudflare's serverless-registry",
    proven=True,
    min_chunk=5 * MIB,
    max_chunk=100_000_000,
    max_blob=5 * GIB,
    max_parts=10_000,
    whole_chunks=True,
)
DISTRIBUTION: Final = Profile(
    # 2.x and 3.x look alike until a chunk is interrupted; both read a PUT's body like a chunk's:
    # PutBlobUploadComplete in registry/handlers/blobupload.go
    name="distribution",
    title="the Docker distribution registry",
    proven=True,
    break_unclear=True,
    may_end_in_put=True,
)
DISTRIBUTION_2: Final = Profile(
    # registry/handlers/blobupload.go L78-84 at distribution/distribution@v2.8.3: after half a chunk the
    # signed offset never fits again
    name="distribution-2",
    title="the Docker distribution registry 2.x",
    proven=True,
    breaks_with_chunk=True,
    may_end_in_put=True,
)
DISTRIBUTION_3: Final = Profile(
    # GetUploadStatus in registry/handlers/blobupload.go L107-132 at distribution/distribution@v3.0.0
    name="distribution-3",
    title="the Docker distribution registry 3.x",
    proven=True,
    may_end_in_put=True,
)
HARBOR: Final = Profile(
    # ships a fork of distribution 2.8.3 (Makefile L133-146 at goharbor/harbor@c50c7dd)
    name="harbor",
    title="Harbor",
    proven=True,
    breaks_with_chunk=True,
)
DOCKER_HUB: Final = Profile(
    # a chunk sent again is answered 404: https://github.com/regclient/regclient/issues/323
    name="docker-hub",
    title="Docker Hub",
    breaks_with_chunk=True,
)
GITLAB: Final = Profile(
    # a fork of distribution 2.x: https://gitlab.com/gitlab-org/container-registry
    name="gitlab",
    title="GitLab's registry",
    breaks_with_chunk=True,
)
GHCR: Final = Profile(
    # 416 to a PATCH of more than 4 MiB: https://github.com/ocx-sh/ocx/issues/237; one PUT has no such limit,
    # but 10 minutes and nothing to resume from
    name="ghcr",
    title="GitHub's registry",
    max_chunk=4 * MIB,
)
ECR: Final = Profile(
    # Range stays at the first chunk, the last chunk goes in the PUT, a chunk sent twice is refused with
    # "First byte of the layer part is ... instead of ...":
    # https://github.com/aws/containers-roadmap/issues/2831; no status: https://github.com/dotnet/sdk/pull/33019;
    # least size: https://github.com/dotnet/sdk-container-builds/issues/424; largest: AWS API, UploadLayerPart
    name="ecr",
    title="Amazon ECR",
    min_chunk=5 * MIB,
    max_chunk=20 * MIB,
    last_in_put=True,
    reports_offset=False,
    resends=True,
)
GOOGLE: Final = Profile(
    # "chunked uploads are not supported": https://github.com/dotnet/sdk-container-builds/issues/287,
    # https://github.com/kitops-ml/kitops/issues/777
    name="google",
    title="Google Artifact Registry",
    whole=True,
    takes_chunks=False,
    reports_offset=False,
)
ACR: Final = Profile(
    # a chunk sent again is answered 404: https://github.com/Azure/azure-sdk-for-python/issues/29738; one PUT
    # of more than 20 MB is answered 413: https://github.com/goharbor/harbor/issues/23015
    name="acr",
    title="Azure Container Registry",
    max_whole=20_000_000,
    breaks_with_chunk=True,
)
QUAY: Final = Profile(
    # endpoints/v2/blob.py (_render_range) and data/registry_model/blobuploader.py L194 at quay/quay@ffba0c7;
    # MAXIMUM_LAYER_SIZE is 20G
    name="quay",
    title="Quay",
    proven=True,
    max_blob=20 * GIB,
    status_excess=1,
    appends_at_start=True,
)
ZOT: Final = Profile(
    # a broken body deletes the session: pkg/api/routes.go L2076-2085 at project-zot/zot@6d19b44; Range of the
    # chunk only until 2025: https://github.com/regclient/regclient/issues/961
    name="zot",
    title="zot",
    proven=True,
    breaks_with_chunk=True,
)
GITEA: Final = Profile(
    # routers/api/packages/container/container.go; a status since https://github.com/go-gitea/gitea/issues/34795
    name="gitea",
    title="Gitea or Forgejo",
    proven=True,
)
ARTIFACTORY: Final = Profile(
    # POST and one PUT failed where PATCH worked: https://github.com/containerd/containerd/issues/3533; a
    # session gone between chunks: https://github.com/GoogleContainerTools/jib/issues/3399
    name="artifactory",
    title="JFrog Artifactory",
    max_whole=0,
)
NEXUS: Final = Profile(
    # support of chunks is unknown, one PUT works: https://github.com/sonatype/nexus-public/issues/967
    name="nexus",
    title="Sonatype Nexus",
    whole=True,
    reports_offset=False,
)
ALIYUN: Final = Profile(
    # Range of the chunk only: https://github.com/regclient/regclient/issues/627
    name="aliyun",
    title="Alibaba Cloud's registry",
    reports_offset=False,
)
MONOLITHIC: Final = Profile(
    # learned: it, or something in front of it, refused chunks
    name="monolithic",
    title="a registry without chunked uploads",
    whole=True,
    takes_chunks=False,
    reports_offset=False,
)
CHUNKED: Final = Profile(
    # learned: it refused a blob in one PUT
    name="chunked",
    title="a registry that takes chunks only",
    max_whole=0,
)
DEFAULT: Final = Profile(name="default", title="a registry of unknown make")

PROFILES: Final = {
    profile.name: profile
    for profile in (
        SERVERLESS,
        DISTRIBUTION,
        DISTRIBUTION_2,
        DISTRIBUTION_3,
        HARBOR,
        DOCKER_HUB,
        GITLAB,
        GHCR,
        ECR,
        GOOGLE,
        ACR,
        QUAY,
        ZOT,
        GITEA,
        ARTIFACTORY,
        NEXUS,
        ALIYUN,
        MONOLITHIC,
        CHUNKED,
        DEFAULT,
    )
}
