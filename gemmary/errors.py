"""The errors that users meet. Each message names what is wrong and what to do next."""


class GemmaryError(Exception):
    """Base of every error that Gemmary raises on purpose."""


class ModelFileError(GemmaryError, ValueError):
    """A model file is damaged, incomplete or hostile. The message names the file and the fault."""

    def __init__(self, path: object, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.path = str(path)
        self.fault = fault


class UnsupportedModelError(GemmaryError, ValueError):
    """The file is sound, but it is not a Gemma 3 model, or uses something that Gemmary does not run."""


class PromptError(GemmaryError, ValueError):
    """The messages, the text or the parameters of a request cannot be used."""


class ContextFullError(PromptError):
    """The prompt does not fit into the context."""


class ImageError(GemmaryError, ValueError):
    """A picture cannot be read. The message is one of a fixed set; it never quotes the file."""


class MemoryBudgetError(GemmaryError, MemoryError):
    """The model or the context does not fit into the memory of this machine."""
