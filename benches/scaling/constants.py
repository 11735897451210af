"""The file of constants: a JSON of `benches/results`, with the machine and the version that they were measured on."""

import json
from pathlib import Path

from scaling.machine import ROOT, Failed

RESULTS = ROOT / "benches" / "results"
#: What `benches/scale predict` needs of a file; `fit.constants` makes it.
SECTIONS = ("cpu", "memory", "wire", "kernel", "redis", "files")


def newest():
    """The newest file of constants that the repository keeps."""
    files = sorted(RESULTS.glob("*-scale.json"))
    if not files:
        raise Failed(f"no constants in {RESULTS}: benches/scale measure makes them")
    return files[-1]


def read(path):
    """What a file says: `constants`, `machine`, `commit`, `date`, `sample`."""
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Failed(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("constants"), dict):
        raise Failed(f"{path} has no constants: benches/scale measure --output {path}")
    missing = [section for section in SECTIONS if section not in found["constants"]]
    if missing:
        raise Failed(f"{path} lacks {', '.join(missing)}: it is of another version, and benches/scale measure makes a "
                     "new one")
    return found


def write(path, found):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(rounded(found), indent=1) + "\n")


def rounded(value):
    """Six digits are more than any of it is worth."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
