"""Claim cards: what a paper says, what we found, and how far the two agree.

``docs/claims/<method>.yml`` is a list of cards. A figure is never typed into a page by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from relearn.strict import Strict

METHODS = {
    "zap": "Reset the last layer while pre-training: are new classes learnt faster, and kept?",
    "forget_relearn": "Forget part of the weights and learn them again: does robustness last?",
    "grow": "Widen or deepen a trained net without changing its function: is it cheaper?",
    "lora_ipc": "Learn tasks one by one with small added factors: is less forgotten?",
    "last_layer_probe": "Train only the last layer on fixed features: what is worth more?",
}
"""Method to the question it answers, in the order of the README."""

PARITY = ("parity", "paper")
"""Words in the name of a profile that repeats a published protocol."""


class ClaimError(Exception):
    """A claim card is not as it must be; the message names file and card."""


class Published(Strict):
    """A figure somebody else published.

    Attributes:
        value: The figure.
        unit: Its unit.
        source: Where it stands, and who said it: paper, authors' notebook, second hand.
    """

    value: float
    unit: str = Field(min_length=1)
    source: str = Field(min_length=1)


class Measured(Strict):
    """A figure measured with this code.

    Attributes:
        value: Mean paired difference, or what the claim speaks of.
        low: Lower end of the interval.
        high: Upper end of the interval.
        seeds: Pairs.
        profile: Environment that made it; one that repeats a published protocol says so by a word
            of ``PARITY``.
        command: What to type to get it again.
        commit: Of this project.
        date: Year-month-day.
        machine: What it ran on.
        rule: Digest of what was said before the run: ``asked_digest`` in decision.json.
        note: What else must be known to get the figure again; empty for nothing.
    """

    value: float
    low: float
    high: float
    seeds: int = Field(ge=1)
    profile: str = Field(min_length=1)
    command: str = Field(min_length=1)
    commit: str = Field(min_length=7)
    date: str
    machine: str = Field(min_length=1)
    rule: str = Field(min_length=8)
    note: str = ""

    @field_validator("date")
    @classmethod
    def _is_date(cls, date: str) -> str:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
            raise ValueError(f"got {date!r}, expected a quoted year-month-day")
        return date

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError("value must lie between low and high")
        return self


class Claim(Strict):
    """One claim.

    Attributes:
        claim: One sentence.
        paper: What was published; null where nothing comparable was.
        ours: What we measured; null until then.
        status: How far they agree; ``not measured`` exactly where ``ours`` is null.
    """

    claim: str = Field(min_length=10)
    paper: Published | None
    ours: Measured | None
    status: Literal["reproduced", "weaker", "not reproduced", "not measured"]

    @property
    def verdict(self) -> str:
        """Return the status in words: a claim of our own cannot be weaker than published."""
        if self.status == "weaker":
            return "weaker than published" if self.paper else "weaker than claimed"
        return self.status

    @model_validator(mode="after")
    def _honest(self) -> Self:
        if not self.claim.endswith(".") or re.search(r"[.] [A-Z]", self.claim):
            raise ValueError("claim must be one sentence that ends with a full stop")
        if (self.ours is None) != (self.status == "not measured"):
            raise ValueError("status is 'not measured' exactly where ours is null")
        if self.paper is None or self.ours is None:
            return self
        if not any(word in self.ours.profile for word in PARITY):
            raise ValueError(
                "only a parity or paper profile may stand beside a published figure; set paper to "
                "null, or measure with the published protocol"
            )
        return self


def read_claims(path: Path) -> list[Claim]:
    """Return the claim cards of one method.

    Args:
        path: ``docs/claims/<method>.yml``.

    Raises:
        ClaimError: The file is missing, or a card is not as it must be.
    """
    if not path.is_file():
        raise ClaimError(f"{path}: no such file")
    try:
        return TypeAdapter(list[Claim]).validate_python(yaml.safe_load(path.read_text("utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ClaimError(f"{path}: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    return "; ".join(
        f"card {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )


def claims_table(claims: Sequence[Claim]) -> str:
    """Return the cards of one method as a Markdown table, with the commands below it."""
    rows = ["| Claim | Published | Ours | Status |", "|---|---|---|---|"]
    for claim in claims:
        cells = (claim.claim, _published(claim), _measured(claim), claim.verdict)
        rows.append("| " + " | ".join(cells) + " |")
    notes = [_note(claim.ours) for claim in claims if claim.ours is not None]
    commands = ["", "How the figures were made:", "", *dict.fromkeys(notes)] if notes else []
    return "\n".join([*rows, *commands, ""])


def _published(claim: Claim) -> str:
    if claim.paper is None:
        return "-"
    sign = "+" if claim.paper.unit.startswith("points") else ""  # of a difference alone
    return f"{claim.paper.value:{sign}g} {claim.paper.unit} ({claim.paper.source})"


def _measured(claim: Claim) -> str:
    ours = claim.ours
    if ours is None:
        return "-"
    interval = f"{ours.value:+g} [{ours.low:+g}, {ours.high:+g}]"
    return f"{interval}, {ours.seeds} pairs, `{ours.profile}`"


def _note(ours: Measured) -> str:
    more = f"; {ours.note}" if ours.note else ""
    return (
        f"- `{ours.profile}`: `{ours.command}`, commit `{ours.commit}`, {ours.date}, "
        f"{ours.machine}; rule `{ours.rule[:12]}`{more}"
    )


def methods_table(folder: Path) -> str:
    """Return the README's table: one row a method, its question and where it stands.

    Args:
        folder: Holds ``<method>.yml`` for the methods that exist.
    """
    rows = ["| Method | The question | First measured claim | State |", "|---|---|---|---|"]
    for method, question in METHODS.items():
        path = folder / f"{method}.yml"
        if not path.is_file():
            rows.append(f"| `{method}` | {question} | - | not built yet |")
            continue
        claims = read_claims(path)
        done = sum(claim.ours is not None for claim in claims)
        link = f"[`{method}`](docs/methods/{method}.md)"
        first = next((_measured(claim) for claim in claims if claim.ours), "not measured yet")
        rows.append(f"| {link} | {question} | {first} | {done} of {len(claims)} claims measured |")
    return "\n".join([*rows, ""])
