"""The `wavenet` command, also as python -m wavenet."""

import sys


def main() -> int:
    """Run the command; see `wavenet.cli.main`. Ctrl-C ends it quietly during its imports, too."""
    try:
        from wavenet import cli
    except KeyboardInterrupt:
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
