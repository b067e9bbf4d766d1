"""What several files of tests use."""

import pytest
from hypothesis import HealthCheck, settings

from backbeat.cli import main

# However busy the machine is: how long an example takes says nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


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
