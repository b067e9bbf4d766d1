"""``python -m backbeat``."""

from .cli import main

main()
