"""What a script with `--mine` runs: it runs this folder, so that its modules find each other."""

from mine import main, swap_in

from shared.errors import one_line_errors

__all__ = ["swap_in"]

if __name__ == "__main__":
    with one_line_errors():
        main()
