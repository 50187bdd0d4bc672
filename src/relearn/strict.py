"""The strict base of every configuration class: frozen, no unknown keys, no silent conversion."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen configuration block that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )
