"""`levier release …`: releases of OpenStack and their bundles."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from levier.cli.client import connect
from levier.cli.output import console, say, show_json, table_of
from levier.cli.polling import poll
from levier.domain.errors import LevierError

app = typer.Typer(help="Releases of OpenStack, and the bundles that hosts get.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Such as 2026.2.1; a series alone (2026.2) is its newest patch level.")]
_BUNDLE_COLUMNS = ("release", "image", "identity", "size_mib", "unpacked_mib", "built", "sha256")


@app.command()
def build(
    name: Name,
    image: Annotated[str, typer.Option(help="Operating system image of the hosts: debian-12 or debian-13.")],
    as_json: Json = False,
) -> None:
    """Build the bundle of a release for an image; a current one is kept."""
    api = connect()
    started = api.post(f"/releases/{name}/bundles", {"image": image})
    release, seen = started["release"], 0

    def ended() -> dict[str, Any] | None:
        nonlocal seen
        answer: dict[str, Any] = api.get(f"/releases/{release}/bundles/{image}/build", since=seen)
        if not as_json:
            for line in answer["lines"]:
                say(line)
        seen += len(answer["lines"])
        return answer if answer["state"] != "running" else None

    try:
        answer = poll(ended, interval_s=0.5)
    except KeyboardInterrupt:
        say(f"\nDetached: the build goes on in the server. Watch it: `levier release build {name} --image {image}`.")
        raise typer.Exit(130) from None
    if answer["state"] == "failed":
        raise LevierError(f"the build of {release} for {image} failed: {answer['error']}", hint=answer.get("hint", ""))
    if as_json:
        show_json(answer["bundle"])


@app.command("list")
def releases(as_json: Json = False) -> None:
    """List all releases, and for which images bundles are built."""
    rows = connect().get("/releases")
    if as_json:
        show_json(rows)
        return
    shown = [{**row, "built": sorted({b["image"] for b in row["bundles"]})} for row in rows]
    console.print(table_of(shown, ("name", "package_count", "images", "built", "summary")))


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show what a release asks for and why, and its bundles; --json has every package."""
    release = connect().get(f"/releases/{name}")
    if as_json:
        show_json(release)
        return
    say(f"{release['name']}: {release['summary']}")
    say(f"{release['package_count']} packages as of {release['as_of']}, for {', '.join(release['images'])}")
    say(f"lock SHA-256 {release['lock_digest']}")
    versions = release["packages"]
    wanted = [
        {**each, "version": versions[each["name"]], "pinned": "yes" if each["version"] else ""}
        for each in (*release["wanted"], *release["constraints"])
        if each["name"] in versions
    ]
    console.print(table_of(wanted, ("name", "version", "pinned", "why")))
    if release["bundles"]:
        console.print(table_of(release["bundles"], _BUNDLE_COLUMNS))
    else:
        say(f"no bundle is built: levier release build {release['name']} --image {release['images'][0]}")


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="The one release.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    as_json: Json = False,
) -> None:
    """Show which packages change from one release to another; those asked for by name come first."""
    answer = connect().get("/releases/diff", a=before, b=after)
    if as_json:
        show_json(answer)
        return
    changes = sorted(answer["changes"], key=lambda row: not row["asked_for"])
    rows = [{**row, "asked for": "yes" if row["asked_for"] else ""} for row in changes]
    title = f"{answer['before']} → {answer['after']}"
    console.print(table_of(rows, ("name", "before", "after", "asked for"), title=title))
    say(f"{len(rows)} packages differ")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The whole name, such as 2026.2.1.")],
    image: Annotated[str | None, typer.Option(help="Only the bundles for this image.")] = None,
    as_json: Json = False,
) -> None:
    """Delete built bundles of a release from Levier; hosts keep what they unpacked."""
    path = f"/releases/{name}/bundles" + (f"?image={image}" if image else "")
    removed = connect().delete(path)
    if as_json:
        show_json(removed)
        return
    for bundle in removed:
        say(f"removed {bundle['identity']} for {bundle['image']}, {bundle['size_mib']} MiB")
