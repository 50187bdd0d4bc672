"""What may be set under ``lora_ipc_operate``: what is done with a model that has learnt tasks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict

NEEDS_FOLDER = ("add_task", "import_peft")
"""Actions that read a folder."""


class LoraIpcOperateConfig(Strict):
    """Everything the ``lora_ipc_operate`` pipeline can be told besides ``lora_ipc`` itself.

    Attributes:
        action: ``add_task`` learns the classes of a folder as one further task; ``roll_back`` drops
            all modules after a task; ``disable`` measures the model without the modules of one task
            and changes nothing; ``merge`` writes one plain net; ``export_peft`` writes a PEFT
            adapter; ``import_peft`` takes one in as a further task.
        arm: Arm of the unit.
        seed: Seed of the unit.
        state: State file to go on from, such as that of an earlier action; empty = the unit's.
        task: Tasks that are kept, merged or exported, counted from 1, or the task that is disabled;
            0 = all of them (for ``disable`` the last); -1 with ``roll_back`` leaves the backbone.
        source_path: With ``add_task`` a folder or zip with one class folder or more; with
            ``import_peft`` the folder of the adapter.
        test_share: Share of the images of a new class that test, for ``add_task``.
        class_names: With ``import_peft`` names of the classes that the adapter learnt, with
            semicolons between; they are the next outputs of the last layer.
    """

    action: Literal["add_task", "roll_back", "disable", "merge", "export_peft", "import_peft"]
    arm: str = Field(min_length=1)
    seed: int = Field(ge=0)
    state: str
    task: int = Field(ge=-1)
    source_path: str
    test_share: float = Field(gt=0, lt=1)
    class_names: str

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of an imported adapter, one by one."""
        names = [name.strip() for name in self.class_names.split(";")]
        return tuple(name for name in names if name)

    @model_validator(mode="after")
    def _names_the_backbone_once(self) -> Self:
        if self.task == -1 and self.action != "roll_back":
            raise ValueError(
                f"task: got -1 with action {self.action}, expected 0 or more; only roll_back "
                "leaves the backbone alone"
            )
        return self


__all__ = ["NEEDS_FOLDER", "LoraIpcOperateConfig"]
