"""What makes an image a new one, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.artifacts.shelf import build_lock, inputs_digest, publish, source_digest, work_directory
from drivers.images.content import DefaultMirrors, default_mirrors, render, sources
from drivers.images.recipe import ImageRecipe, KernelFlavour, recipe_named
from drivers.images.rootfs import parse_resolution
from levier.domain.errors import Conflict, InvalidRequest, MalformedReply, NotFound


def test_each_part_of_a_recipe_is_an_input() -> None:
    recipes = [
        recipe_named("debian-12"),
        recipe_named("debian-12", kernel=KernelFlavour.CLOUD),
        recipe_named("debian-13"),
        ImageRecipe("debian-13", "bookworm"),
        recipe_named("debian-12", extra=("memcached",)),
        recipe_named("ours", os="debian-12"),
    ]
    assert len({inputs_digest(recipe.inputs()) for recipe in recipes}) == len(recipes)
    assert inputs_digest(recipes[0].inputs()) == inputs_digest(recipe_named("debian-12").inputs())


def test_the_order_of_inputs_does_not_matter() -> None:
    assert inputs_digest({"a": 1, "b": [2]}) == inputs_digest({"b": [2], "a": 1})
    assert inputs_digest({"a": 1, "b": [2]}) != inputs_digest({"a": 1, "b": ["2"]})


def test_the_kernel_decides_the_package() -> None:
    assert "linux-image-amd64" in recipe_named("debian-12").packages()
    assert "linux-image-cloud-amd64" in recipe_named("debian-12", kernel=KernelFlavour.CLOUD).packages()
    assert "systemd-repart" in recipe_named("debian-13").packages()


def test_packages_can_be_added_and_an_image_have_a_name_of_its_own() -> None:
    recipe = recipe_named("ours", os="debian-12", extra=("sudo", "memcached", "memcached"))
    assert (recipe.name, recipe.suite, recipe.extra) == ("ours", "bookworm", ("memcached", "sudo"))
    assert recipe.packages() == (*recipe_named("debian-12").packages(), "memcached")
    assert recipe.plain == recipe_named("ours", os="debian-12")


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        recipe_named("debian-11")
    assert "debian-12, debian-13" in caught.value.hint


def test_builder_sources_count_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = source_digest(tmp_path)
    (tmp_path / "seed.py").write_text("unrelated")
    assert source_digest(tmp_path, without="seed") == before
    assert source_digest(tmp_path) != before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert source_digest(tmp_path, without="seed") != before


def test_resolution_reads_apts_simulation() -> None:
    output = (
        "I: running apt-get update...\n"
        "Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []\n"
        "Conf libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64])\n"
        "Inst udev (252.39-1 Debian:12.15/oldstable, Debian-Security:12/x [amd64])\n"
    )
    assert parse_resolution(output).packages == {"libc6": "2.36-9+deb12u14", "udev": "252.39-1"}
    with pytest.raises(MalformedReply):
        parse_resolution("E: something else\n")


def test_package_sources_on_a_host_are_the_distributions_own_choice() -> None:
    cloud_cfg = (
        "system_info:\n"
        "  package_mirrors:\n"
        "    - arches: [default]\n"
        "      failsafe: {primary: 'https://p.example/debian', security: 'https://s.example/security'}\n"
    )
    mirrors = default_mirrors(cloud_cfg)
    assert mirrors == DefaultMirrors("https://p.example/debian", "https://s.example/security")
    text = sources("trixie", mirrors)
    assert "URIs: https://p.example/debian\nSuites: trixie trixie-updates\n" in text
    assert "URIs: https://s.example/security\nSuites: trixie-security\n" in text
    with pytest.raises(MalformedReply):
        default_mirrors("system_info: {}\n")


def test_boot_menu_golden() -> None:
    menu = render("grub.cfg.j2", {"root_uuid": "0000-1"})
    assert "linux /vmlinuz root=UUID=0000-1 ro console=tty0 console=ttyS0,115200\n" in menu
    assert 'search --no-floppy --fs-uuid --set=root --hint="${root}" 0000-1\n' in menu


def test_a_template_with_an_unknown_name_is_an_error() -> None:
    with pytest.raises(Exception, match="root_uuid"):
        render("grub.cfg.j2", {})


def test_one_build_at_a_time_and_leftovers_go(tmp_path: Path) -> None:
    with build_lock(tmp_path, "x"):
        (tmp_path / "x/.building-dead").mkdir()
        with pytest.raises(Conflict, match="another build of x"), build_lock(tmp_path, "x"):
            raise AssertionError("entered twice")
        with build_lock(tmp_path, "y"):
            pass
    with build_lock(tmp_path, "x"):
        assert not (tmp_path / "x/.building-dead").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="cannot be used"), build_lock(tmp_path / "file", "x"):
        raise AssertionError("entered")


def test_publication_is_whole_or_nothing(tmp_path: Path) -> None:
    def interrupted_build() -> None:
        with build_lock(tmp_path, "x"), work_directory(tmp_path, "x") as work:
            (work / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_build()
    assert [path.name for path in (tmp_path / "x").iterdir()] == [".lock"]
    for content in ("first", "second"):
        with work_directory(tmp_path, "x") as work:
            (work / "done").mkdir()
            (work / "done/file").write_text(content)
            publish(work / "done", tmp_path / "x/digest")
        assert (tmp_path / "x/digest/file").read_text() == content
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [".lock", "digest"]
