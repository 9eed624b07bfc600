"""The zoo's heavy packages are imported only where they are used; this names what to install when one is missing."""

import importlib.util

INSTALL = "pip install 'flowkit-inn[zoo]'"


def require(*packages: str, install: str = INSTALL) -> None:
    """Checks that packages can be imported, without importing them.

    Arguments:
        install: the command that installs them.

    Raises:
        ModuleNotFoundError: naming every missing package and the command that installs them.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(
            f"this part of the zoo needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed; run: {install}",
            name=missing[0],
        )
