"""The one kind of failure a user can mend, and how the commands report it."""

import functools
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in a file, a flag or a config: one sentence that says what, where and how to mend it."""


class Interrupted(Exception):
    """A run was asked to end and did, with its state saved. The text says why; `code` is the command's exit code."""

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


def exit_code(command: Callable[..., None]) -> Callable[..., int]:
    """Wrap a command's `main` so that a UserError ends in its sentence on stderr and exit code 2, without a
    traceback.
    """

    @functools.wraps(command)
    def run(*args, **kwargs) -> int:
        try:
            command(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except Interrupted as reason:
            print(reason, file=sys.stderr)
            return reason.code
        except BrokenPipeError:  # the reader of our output (head, less) has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        return 0

    return run
