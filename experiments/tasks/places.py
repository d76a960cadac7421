"""Where files of a task are: as modules that a spec names, beside the spec first, then in the working folder."""

from pathlib import Path

from dynamics.errors import PlasticodeError, printable, refused
from dynamics.plugins import looked_in
from experiments.machine.names import hint


def place_of(key: str, text: str) -> Path:
    """The file or folder that `text`, the value of the spec key `key`, names; where there is none, as it is written.

    Raises:
        PlasticodeError: the system does not let us look.
    """
    try:
        path = Path(text).expanduser()
        places = (Path(folder) / path for folder in looked_in())
        return next((place for place in places if place.exists()), path)
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, no permission, nobody's home
        raise refused(key, text, f"it cannot be read ({type(error).__name__})") from None


def found(key: str, text: str) -> Path:
    """As `place_of`, where there has to be something."""
    path = place_of(key, text)
    if path.exists():
        return path
    folders = [path.parent] if path.is_absolute() else [Path(folder) / path.parent for folder in looked_in()]
    names = [other.name for folder in folders if folder.is_dir() for other in folder.iterdir()]
    where = "" if path.is_absolute() else " beside the spec or in the working folder"
    raise PlasticodeError(f"{key} '{printable(text, 1000)}' does not exist{where}{hint(path.name, names)}")
