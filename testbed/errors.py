"""Every error that a user can see.

::

    TestbedError(message, hint)        exit status of the CLI
      SpecError                        the experiment file is wrong                    2
      HostError                        something is missing on this machine            3
      BuildError                       an image, a kernel or a C part was not built    3
      CommandError                     a program that we started failed                3
      LabError                         a machine misbehaved                            3
        LostMachine                    it died
        DeadlineExceeded               it did not answer in time
        DeployError                    it runs but rejects what was copied into it
      EvidenceError                    a log or a quote is malformed                   4
      IncompatibleRuns                 results that must not be pooled                 4

A failed workload is a ``Status``, a wrong digest is a ``Finding``: neither is an exception.
"""


class TestbedError(Exception):
    """Something that the user must know. ``message`` says what, where, expected and got; ``hint`` says what to do."""

    exit_status = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class SpecError(TestbedError):
    """The experiment file is wrong: which file, which key, what was expected, what was got."""

    exit_status = 2


class HostError(TestbedError):
    """Something is missing on this machine; the hint names the package and the command that installs it."""


class BuildError(TestbedError):
    """An image, a kernel or a C part could not be built; nothing half-built is left in the cache."""


class CommandError(TestbedError):
    """A program that we started failed; the message has its command line, exit status and last lines."""


class LabError(TestbedError):
    """A machine misbehaved."""


class LostMachine(LabError):
    """The machine died: QEMU ended, or the guest's kernel stopped."""


class DeadlineExceeded(LabError):
    """The machine, or a command in it, did not answer in time."""


class DeployError(LabError):
    """The machine runs but rejects what was copied into it: a module, a BPF program, a policy, an image."""


class EvidenceError(TestbedError):
    """A log, a quote or a record is malformed. Malformed is never a pass."""

    exit_status = 4


class IncompatibleRuns(TestbedError):
    """Results that must not be pooled: they differ in tier, image or emulator."""

    exit_status = 4
