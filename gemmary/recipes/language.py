"""Stages of nano that need text alone: vocabulary, packed rows, the teacher, the student that it teaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ..config import Config
from ..inputs.tokenizer import Tokenizer
from ..model.modules import TextModule
from ..train.loop import Plan, Trainer
from ..train.packing import Rows, pack_rows
from ..train.teacher import OnlineTeacher
from ..train.text_task import TextTask
from ..train.vocabulary import train_vocabulary
from .corpus import Corpus, Part
from .network import new_decoder
from .results import leave, leave_arrays, leave_npz

VOCABULARY = "tokenizer.model"
WEIGHTS = "weights.safetensors"  # float32 by canonical name, norms without their 1
ARRAYS = ("ids", "document", "pos", "weights")  # of packed rows


@dataclass(frozen=True)
class Phase:
    """One run of the loop: its folder's name, its data, its plan."""

    name: str
    part: Part
    plan: Plan


class Language:
    """Text stages in the folder `out`; each result is made once and found again."""

    def __init__(self, corpus: Corpus, out: Path, row: int, vocabulary_conversations: int, seed: int) -> None:
        self.corpus, self.out, self.row, self.seed = corpus, out, row, seed
        self.vocabulary_conversations = vocabulary_conversations

    def tokenizer(self, size: int) -> Tokenizer:
        """tokenizer.model: a vocabulary of `size` pieces."""
        path = self.out / VOCABULARY
        if not path.exists():
            texts = self.corpus.vocabulary_texts(self.vocabulary_conversations)
            leave(path, train_vocabulary(texts, size))
        return Tokenizer.from_model(path)

    def rows(self, phase: Phase, tokenizer: Tokenizer) -> Rows:
        """rows.npz: the packed rows of a phase."""
        path = self.out / phase.name / "rows.npz"
        if not path.exists():
            rows = pack_rows(self.corpus.documents(tokenizer, phase.part, self.row), self.row)
            path.parent.mkdir(exist_ok=True)
            leave_npz(path, {name: getattr(rows, name) for name in ARRAYS})
        with np.load(path, allow_pickle=False) as arrays:
            return Rows(*(arrays[name] for name in ARRAYS))

    def learn(
        self, config: Config, phases: Sequence[Phase], teacher: TextModule | None = None
    ) -> TextModule | None:
        """A model of `config` after all phases, each with its weights.safetensors; None if interrupted.

        Phases whose plan has a Distillation learn from `teacher`.
        """
        model = new_decoder(config, self.seed, self.row)
        for phase in phases:
            path = self.out / phase.name / WEIGHTS
            if path.exists():
                model.load_arrays(load_file(path))
            elif self._run(model, phase, teacher):
                leave_arrays(path, model.arrays())
            else:
                return None
        return model

    def _run(self, model: TextModule, phase: Phase, teacher: TextModule | None) -> bool:
        rows = self.rows(phase, self.tokenizer(model.config.vocab))
        how = phase.plan.distill
        taught = (
            OnlineTeacher(teacher, how, low=phase.plan.low)
            if how is not None and teacher is not None
            else None
        )
        task = TextTask(model, rows, phase.plan, taught)
        return Trainer(task, phase.plan, self.out / phase.name).run()
