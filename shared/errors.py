"""User mistakes: one clear line instead of a traceback.

Promoted by 01_env.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the person at the keyboard can put right.

    The message says what was got, what was expected and what to do next.
    """


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the script with one line on stderr and exit code 2 on a `UserError`.

    Any other exception is a defect of ours and keeps its traceback. Ctrl-C
    exits with 130, as shells expect.
    """
    for stream in (sys.stdout, sys.stderr):  # a name or a reply may hold what they cannot print
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output left, as in `... | head`
        sys.stderr.close()
        sys.exit(0)
