"""Parameters that flows share, with the descriptions and limits that the Prefect UI's run form shows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

NodeNames = Annotated[
    list[str],
    Field(description="Names of nodes in the site file. Empty: every node that is not deployed and not held."),
]
Parallel = Annotated[int, Field(ge=1, le=500, description="How many nodes are worked on at the same time.")]
WaveSize = Annotated[int, Field(ge=1, le=500, description="How many nodes make up one wave, a flow run of its own.")]
