"""What can go wrong beyond a bad argument."""

__all__ = ["AcceleratorError", "ToolError"]


class AcceleratorError(RuntimeError):
    """The accelerator refused a command or stopped answering; it has been reset.

    ``code`` is the :class:`backbeat_rtl.isa.Error`, or None if it stopped answering; ``value`` is
    the offending value.
    """

    def __init__(self, message: str, code=None, value: int | None = None):
        super().__init__(message)
        self.code, self.value = code, value


class ToolError(RuntimeError):
    """A program that a backend needs is missing or failed."""
