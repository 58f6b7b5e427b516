"""What the studies of teachers share: two teachers, one student, and its loss as it learns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...train.sampling import Distillation
from ...train.teacher import OnlineTeacher
from ..network import decoder
from ..results import Weights
from .lab import Lab, Schedule, toy
from .study import Points

WIDTHS = {"small teacher": 48, "large teacher": 128}
STUDENT = 32
LAYERS = 6
HOW = Distillation(draws=256)
TEACHER_SEED = 1000


class Teaching:
    """Students of `lab` under a teacher or without one; a run is made once, whichever study asks for it."""

    def __init__(self, lab: Lab, quick: bool) -> None:
        self.lab = lab
        self.row = 32 if quick else 256
        self.lengths = (1, 2) if quick else (20, 40, 80, 160)
        self.teachers = Schedule(2 if quick else 300)
        shape = (8 if quick else 32, self.row, lab.scale.vocabulary)
        self.configs = {name: toy(name, LAYERS, width, *shape) for name, width in WIDTHS.items()}
        self.student = toy("student", LAYERS, STUDENT, *shape)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        return {
            "student": asdict(self.student),
            "teachers": {name: asdict(config) for name, config in self.configs.items()},
            "teachers' schedule": asdict(self.teachers),
            "steps": self.lengths,
            "row": self.row,
            "distillation": asdict(HOW),
            "lab": asdict(self.lab.scale),
        }

    def teacher(self, name: str) -> Weights:
        """The weights of a teacher; every seed of the student has the same one."""
        folder = self.lab.folder / "teachers" / name.replace(" ", "-")
        return self.lab.train(folder, self.configs[name], self.row, self.teachers, TEACHER_SEED)

    def teacher_loss(self, name: str) -> float:
        """Nats a token of a teacher."""
        return self.lab.loss(self.configs[name], self.row, self.teacher(name))

    def learn(self, name: str, seed: int) -> Points:
        """Held-out loss after each length, at a level rate. `name`: a teacher, or "next tokens" for none."""
        teacher = None
        if name in self.configs:
            model = decoder(self.configs[name], self.teacher(name), self.row)
            teacher = OnlineTeacher(model, HOW)
        folder = self.lab.folder / "students" / f"{name.replace(' ', '-')}-{seed}"
        points: Points = {}
        for steps in self.lengths:
            schedule = Schedule(steps, level=True, warmup=self.lengths[0] // 2)
            weights = self.lab.train(folder, self.student, self.row, schedule, seed, teacher=teacher)
            points[point(steps)] = self.lab.loss(self.student, self.row, weights)
        return points


def point(steps: int) -> str:
    """ "step 120"."""
    return f"step {steps}"


def step_of(name: str) -> int:
    """120, of "step 120"."""
    return int(name.removeprefix("step "))
