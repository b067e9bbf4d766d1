"""What several files of tests use."""

import pytest

from backbeat.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line; gives its exit code, stdout and stderr."""
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["backbeat", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return run
