"""Bringing images and ramdisks along through the REST API and the command line, over a real installation's services."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from drivers.ramdisk import list_ramdisks
from levier.api.app import create_app
from levier.bootstrap import ensure_token, wire
from levier.cli import app
from levier.domain.errors import LevierError
from levier.lab.stub.image import write_image, write_ramdisk
from levier.services.boot_files import DeployShelf, ensure_ramdisk
from levier.services.settings import Settings
from tests.integration.prefect_server import free_port
from tests.unit.site_samples import SAMPLE


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    port = free_port()
    return Settings(
        state_dir=tmp_path / "state",
        database_url=f"sqlite:///{tmp_path / 'levier.db'}",
        api_url=f"http://127.0.0.1:{port}",
        prefect_api_url="http://127.0.0.1:1/api",
        boot_port=8480,
        image_cache=tmp_path / "images",
        build_ramdisk=False,
    )


@pytest.fixture
def api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API of an installation, and an operator's environment beside it."""
    services = wire(settings)
    token = ensure_token(settings.token_file)
    port = int(settings.api_url.rpartition(":")[2])
    server = uvicorn.Server(uvicorn.Config(create_app(services, token=token), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    monkeypatch.setenv("LEVIER_API_URL", settings.api_url)
    monkeypatch.setenv("LEVIER_STATE_DIR", str(settings.state_dir))
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def _levier(*arguments: str) -> str:
    """What the command prints. Raises what it fails with."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("api")
def test_an_image_is_sent_checked_and_listed(settings: Settings, tmp_path: Path) -> None:
    image = tmp_path / "image"
    write_image(image)
    digest = subprocess.run(["sha256sum", str(image)], capture_output=True, text=True, check=True).stdout.split()[0]
    assert digest in _levier("image", "import", "mine", str(image), "--sha256", digest)
    assert image.exists()
    assert digest in _levier("image", "list")
    half = tmp_path / "half"
    half.write_bytes(image.read_bytes()[:-500])
    with pytest.raises(LevierError, match="no whole zstd stream") as refused:
        _levier("image", "import", "other", str(half))
    assert "copy it whole" in refused.value.hint
    for name in ("../other", "UPPER", "a/b"):
        with pytest.raises(LevierError):
            _levier("image", "import", name, str(image))
    assert sorted(path.name for path in settings.image_cache.iterdir()) == ["mine"]


@pytest.mark.usefixtures("api")
def test_an_image_with_packages_takes_a_site_a_node_and_a_release(settings: Settings, tmp_path: Path) -> None:
    def asked_for_packages(name: str) -> LevierError:
        with pytest.raises(LevierError) as refused:
            _levier("image", "build", name, "--with-packages")
        return refused.value

    assert "no site file was applied yet" in str(asked_for_packages("debian-12"))
    site = tmp_path / "site.yaml"
    site.write_text(SAMPLE.replace("  - name: debian-12\n", "  - name: debian-12\n  - {name: ours, os: debian-13}\n"))
    _levier("site", "apply", str(site))
    assert "no node of the site has the image ours" in str(asked_for_packages("ours"))
    assert "the site names no release" in str(asked_for_packages("debian-12"))
    with pytest.raises(LevierError, match="no recipe for an image 'theirs'") as refused:
        _levier("image", "build", "theirs")
    assert "says one of these as its `os`" in refused.value.hint
    assert list(settings.image_cache.glob("*")) == []


@pytest.mark.usefixtures("api")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LevierError, match=f"{tmp_path / 'none'} cannot be read: No such file"):
        _levier("image", "import", "mine", str(tmp_path / "none"))


@pytest.mark.usefixtures("api")
def test_a_ramdisk_goes_from_one_installation_to_another(settings: Settings, tmp_path: Path) -> None:
    said: list[str] = []
    ensure_ramdisk(settings, said.append)
    assert said == ["ramdisk: none is built here; one can be imported with `levier ramdisk import FILE`"]
    shelf = DeployShelf(settings.image_cache)
    assert shelf.files() is None
    with pytest.raises(LevierError, match="there is no deploy ramdisk"):
        _levier("ramdisk", "export", str(tmp_path / "early"))
    assert list(tmp_path.glob("*early*")) == []
    write_ramdisk(tmp_path / "bundle")
    assert "levier-stub" in _levier("ramdisk", "import", str(tmp_path / "bundle"))
    files = shelf.files()  # the boot service was started before
    assert files is not None
    assert files.kernel.read_bytes().startswith(b"The kernel of the stub chassis")
    assert "imported" in _levier("ramdisk", "list")
    _levier("ramdisk", "export", str(tmp_path / "exported"))
    before = list_ramdisks(settings.image_cache)[0].record
    _levier("ramdisk", "import", str(tmp_path / "exported"))
    after = list_ramdisks(settings.image_cache)[0].record
    assert after.model_copy(update={"imported_at": None}) == before.model_copy(update={"imported_at": None})
    ensure_ramdisk(settings, said.append)
    assert said[1:] == ["ramdisk: the imported one is served, kernel levier-stub"]
    assert [path.name for path in settings.image_cache.iterdir()] == ["ramdisk"]
