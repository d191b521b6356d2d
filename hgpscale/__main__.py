"""``python -m hgpscale`` is the command ``hgpscale``."""

from hgpscale.cli import main

if __name__ == "__main__":
    main()
