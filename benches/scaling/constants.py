"""The file of constants: a JSON of `benches/results`, with the machine and the version that they were measured on."""

import json
from pathlib import Path

from scaling.machine import ROOT, Failed

#: What a file has must fit to what the model reads: a number for each change.
FORMAT = 1
RESULTS = ROOT / "benches" / "results"
#: What `benches/scale predict` needs of a file; `fit.constants` makes it.
SECTIONS = ("cpu", "memory", "wire", "kernel", "redis", "files")


def newest():
    """The newest file of constants that the repository keeps."""
    files = sorted(RESULTS.glob("*-scale.json"))
    if not files:
        raise Failed(f"no constants in {RESULTS}: benches/scale measure makes them")
    return files[-1]


def read(path, is_fitted=True):
    """What a file says: `constants`, `sample` (what they were fitted to), `points`, `machine`, `version`, `date`."""
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Failed(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("constants"), dict):
        raise Failed(f"{path} has no constants: benches/scale measure --output {path}")
    missing = is_fitted and [section for section in SECTIONS if section not in found["constants"]]
    if missing or is_fitted and found.get("format") != FORMAT:
        lacks = f"lacks {', '.join(missing)}" if missing else f"is not of format {FORMAT}"
        raise Failed(f"{path} {lacks}: it is of another version, and benches/scale measure makes a new one")
    return found


def write(path, found):
    found = {"format": FORMAT} | found
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(rounded(found), indent=1) + "\n")


def rounded(value):
    """Six digits are more than any of it is worth."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
