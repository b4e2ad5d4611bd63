"""What an installation came to, in lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def install_report(steps: list[dict[str, Any]]) -> Iterator[str]:
    """What the smoke test saw of each compute host, and what was changed. `steps` as the API shows them."""
    for step in steps:
        if step["step"] == "smoke-check" and step["result"]:
            yield f"{step['target']}: {_seen(step['result'])}"
    yield _what_changed(steps)


def _seen(result: dict[str, Any]) -> str:
    """What a server did, and what could not be checked of it."""
    missing = result.get("not_checked", {})
    ran = "no server ran on it" if "server" in missing else "a server ran on it"
    said = [f"its server had {result['address']} by DHCP"] if result.get("address") else [ran]
    said += [f"reached {peer} ({words})" for peer, words in result.get("peers", {}).items()]
    said += [f"did not reach that on {peer} ({words})" for peer, words in result.get("unreached", {}).items()]
    absent = result.get("without_server", []) if "peers" not in missing else []
    said += [f"{', '.join(absent)} had no server to be reached"] if absent else []
    said += [f"volume {result['volume']}"] if result.get("volume") else []
    said += [f"screen {result['screen']}"] if result.get("screen") else []
    said += [f"{what} not checked: {why}" for what, why in missing.items()]
    return "; ".join(said)


def _what_changed(steps: list[dict[str, Any]]) -> str:
    own = [step for step in steps if not step["step"].startswith("smoke-")]
    changed = [step for step in own if step["changed"]]
    blind = [step for step in own if step["changed"] is None]
    if changed:
        return f"{len(changed)} of {len(steps)} steps changed something: `levier operation show --json` says what"
    repeated = f"; {len(blind)} of them repeat a command that cannot tell" if blind else ""
    return f"Nothing was changed: all {len(steps)} steps found their work done{repeated}."
