"""What registries, and what stands before them, do to a push."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from datetime import timedelta

import trustme

from pusher.registry.upload import body_limit, profiles
from tests.cli.world import CHUNK, PUBLIC, World, situation
from tests.store.privileges import like_any_user
from tests.support.certificates import demanding, inspection_ca, server, write_ca
from tests.support.fakeregistry import (
    SERVERLESS,
    Answer,
    On,
    ResetAfter,
    Stall,
    bad_gateway,
    busy,
    too_large,
    unauthorized,
)
from tests.support.fakeregistry.wire import Reply
from tests.support.processes import free_port
from tests.support.tokens import TokenServer, demand

ALICE = ("alice", "the right one")


def says(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, {"Content-Type": "application/json"}, body)


@situation("registry-unreachable")
def nobody_listens(world: World) -> None:
    world.push_archive(f"127.0.0.1:{free_port()}")


@situation("connection-broken")
def every_chunk_is_cut(world: World) -> None:
    world.push_archive(world.broken(On.CHUNK, ResetAfter(100)))


@situation("registry-stalled")
def no_answer_comes(world: World) -> None:
    world.env(PUSHER_ANSWER_TIMEOUT="0.2")
    world.push_archive(world.broken(On.OPEN, Stall()))


@situation("registry-busy")
def it_asks_for_ten_minutes(world: World) -> None:
    world.push_archive(world.broken(On.OPEN, busy("600")))


@situation("registry-error")
def its_front_has_lost_it(world: World) -> None:
    world.push_archive(world.broken(On.OPEN, bad_gateway()))


@situation("not-a-registry")
def a_web_server(world: World) -> None:
    page = Reply(200, {"Content-Type": "text/html"}, b"<html>Welcome to nginx!</html>")
    site = world.site(lambda seen: page)
    world.push_archive(site.address)


@situation("registry-refused")
def it_dislikes_the_manifest(world: World) -> None:
    answer = says(400, "MANIFEST_INVALID", "manifest schema version is not supported")
    world.push_archive(world.broken(On.PUT_MANIFEST, answer))


@situation("registry-error-in-html", "registry-error")
def a_front_dislikes_the_request(world: World) -> None:
    page = b"<html><head><title>Request blocked</title></head><body><p>Your IP: 203.0.113.7</p></body>"
    world.push_archive(world.broken(On.OPEN, Answer(400, {"Content-Type": "text/html"}, page)))


@situation("repository-unknown")
def nobody_made_the_repository(world: World) -> None:
    answer = says(404, "NAME_UNKNOWN", "repository name not known to registry")
    world.push_archive(world.broken(On.OPEN, answer))


@situation("layer-too-large")
def a_layer_over_the_limit(world: World) -> None:
    small = replace(profiles.SERVERLESS, max_blob=30_000, min_chunk=1000, max_chunk=CHUNK)
    world.patch.setitem(profiles.PROFILES, small.name, small)
    world.push_archive(world.registry(SERVERLESS.scaled(min=1000, max=CHUNK, blob=30_000)).address)


@situation("chunk-too-large")
def a_front_that_takes_nothing(world: World) -> None:
    world.patch.setattr(body_limit, "LEAST", 500)  # the blobs are small here
    world.push_archive(world.broken(On.CHUNK, too_large()))


@situation("digest-rejected")
def bytes_change_on_the_way(world: World) -> None:
    answer = says(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    world.push_archive(world.broken(On.CLOSE, answer))


# --- logins -----------------------------------------------------------------------------------------------


@situation("credentials-missing")
def no_login(world: World) -> None:
    world.push_archive(world.registry(credentials=ALICE).address)


@situation("credentials-rejected")
def the_wrong_password(world: World) -> None:
    world.env(PUSHER_PASSWORD="the wrong one")
    world.push_archive(world.registry(credentials=ALICE).address, "--username", "alice")


@situation("credentials-rejected-login", "credentials-rejected")
def the_wrong_password_for_login(world: World) -> None:
    world.env(PUSHER_PASSWORD="the wrong one")
    world.run("login", world.registry(credentials=ALICE).address, "--username", "alice")


def _with_tokens(world: World) -> tuple[TokenServer, str]:
    """A registry that wants tokens of a server of its own."""
    tokens = world.stack.enter_context(TokenServer(login=ALICE))
    registry = world.registry()
    registry.faults.add(demand(tokens))
    return tokens, registry.address


@situation("credentials-missing-token", "credentials-missing")
def no_login_for_the_token_server(world: World) -> None:
    world.push_archive(_with_tokens(world)[1])


@situation("credentials-rejected-token", "credentials-rejected")
def the_wrong_password_for_the_token_server(world: World) -> None:
    world.env(PUSHER_PASSWORD="the wrong one")
    world.push_archive(_with_tokens(world)[1], "--username", "alice")


@situation("permission-denied-token", "permission-denied")
def a_token_that_may_only_pull(world: World) -> None:
    tokens, registry = _with_tokens(world)
    tokens.allowed = lambda resource, action: action == "pull"
    world.env(PUSHER_PASSWORD=ALICE[1])
    world.push_archive(registry, "--username", "alice")


@situation("permission-denied")
def somebody_elses_repository(world: World) -> None:
    world.push_archive(
        world.broken(On.OPEN, says(403, "DENIED", "requested access to the resource is denied"))
    )


@situation("authentication-unsupported")
def kerberos(world: World) -> None:
    world.push_archive(world.broken(On.ANY, unauthorized("Negotiate")))


@situation("credentials-unreadable")
def a_damaged_file(world: World) -> None:
    world.file("docker/config.json", '{"auths": {"127.0.0.1"')
    world.env(DOCKER_CONFIG=str(world.folder / "docker"))
    world.push_archive(world.registry(credentials=ALICE).address)


@situation("password-missing")
def an_empty_pipe(world: World) -> None:
    world.archive()
    world.env(REGISTRY=world.registry(credentials=ALICE).address)
    world.shell(
        f"printf '' | pusher push {world.folder}/app.tar --to $REGISTRY/app --username alice --password-stdin"
    )


@situation("password-missing-and-no-terminal", "password-missing")
def nobody_to_ask(world: World) -> None:
    world.archive()
    world.shell(f"pusher push {world.folder}/app.tar --to registry.example.com/app:1 --username alice")


@situation("credential-helper-failed")
def no_such_helper(world: World) -> None:
    world.file("docker/config.json", '{"credsStore": "keychain"}')
    world.env(DOCKER_CONFIG=str(world.folder / "docker"))
    world.push_archive(world.registry(credentials=ALICE).address)


@situation("credentials-unwritable")
def a_file_of_somebody_else(world: World) -> None:
    folder = world.file("docker/config.json", "{}").parent
    folder.chmod(0o500)
    world.env(DOCKER_CONFIG=str(folder), PUSHER_PASSWORD=ALICE[1])
    with like_any_user():
        world.run("login", world.registry(credentials=ALICE).address, "--username", "alice")


# --- TLS and proxies ----------------------------------------------------------------------------------------


def _fine(_: object) -> Reply:
    return Reply(200, {}, b"{}")


@situation("certificate-untrusted")
def a_ca_that_nobody_knows(world: World) -> None:
    authority = trustme.CA(organization_name="Example Corp")
    world.push_archive(world.site(_fine, server(authority, "127.0.0.1")).address)


@situation("certificate-untrusted-inspection", "certificate-untrusted")
def a_vpn_replaces_it(world: World) -> None:
    world.push_archive(world.site(_fine, server(inspection_ca(), "127.0.0.1")).address)


@situation("certificate-untrusted-expired", "certificate-untrusted")
def it_ran_out(world: World) -> None:
    authority = trustme.CA(organization_name="Example Corp")
    ca = write_ca(authority, world.folder / "company.pem")
    week = timedelta(days=7)
    tls = server(authority, "127.0.0.1", begins=-2 * week, ends=-week)
    world.push_archive(world.site(_fine, tls).address, "--ca-cert", str(ca))


@situation("certificate-untrusted-name", "certificate-untrusted")
def it_is_for_another_host(world: World) -> None:
    authority = trustme.CA(organization_name="Example Corp")
    ca = write_ca(authority, world.folder / "company.pem")
    site = world.site(_fine, server(authority, "hotel.example.com"))
    world.push_archive(site.address, "--ca-cert", str(ca))


@situation("client-certificate-refused")
def it_wants_ours(world: World) -> None:
    authority = trustme.CA(organization_name="Example Corp")
    ca = write_ca(authority, world.folder / "company.pem")
    tls = demanding(authority, "127.0.0.1", trustme.CA(), ssl.TLSVersion.TLSv1_3)
    world.push_archive(world.site(_fine, tls).address, "--ca-cert", str(ca))


@situation("tls-failed")
def it_wants_ours_and_says_so_early(world: World) -> None:
    authority = trustme.CA(organization_name="Example Corp")
    ca = write_ca(authority, world.folder / "company.pem")
    tls = demanding(authority, "127.0.0.1", trustme.CA(), ssl.TLSVersion.TLSv1_2)
    world.push_archive(world.site(_fine, tls).address, "--ca-cert", str(ca))


@situation("certificate-file-unusable")
def no_such_file(world: World) -> None:
    world.push_archive(PUBLIC, "--ca-cert", str(world.folder / "company.pem"))


@situation("certificate-file-unusable-content", "certificate-file-unusable")
def a_key_in_place_of_a_certificate(world: World) -> None:
    pem = world.file("company.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    world.push_archive(PUBLIC, "--ca-cert", str(pem))


@situation("plain-http-refused")
def from_https_to_http(world: World) -> None:
    moved = Reply(307, {"Location": f"http://{PUBLIC}/v2/"})
    site = world.site(lambda seen: moved, server(trustme.CA(), PUBLIC))
    registry = f"{PUBLIC}:{site.port}"
    world.push_archive(registry, "--insecure", registry)


@situation("location-refused")
def the_upload_is_sent_to_a_private_network(world: World) -> None:
    location = {"Location": "http://169.254.169.254/latest/meta-data/?token=s3cr3t-s3cr3t", "Range": "0-0"}
    port = world.broken(On.OPEN, Answer(202, location)).rpartition(":")[2]
    world.push_archive(f"{PUBLIC}:{port}", "--plain-http")
    assert "s3cr3t" not in world.last.err


@situation("registry-unreachable-name", "registry-unreachable")
def a_mistyped_name(world: World) -> None:
    world.push_archive("regsitry.example.com")


@situation("proxy-failed")
def a_proxy_that_is_away(world: World) -> None:
    world.env(HTTPS_PROXY=f"http://alice:s3cr3t@127.0.0.1:{free_port()}")
    world.push_archive(PUBLIC)
    assert "s3cr3t" not in world.last.err


@situation("proxy-unusable")
def a_proxy_that_wants_a_login(world: World) -> None:
    proxy = world.site(lambda seen: Reply(407, {"Proxy-Authenticate": 'Basic realm="corp"'}))
    world.env(HTTPS_PROXY=f"http://{proxy.address}")
    world.push_archive(PUBLIC)
