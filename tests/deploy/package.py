#!/usr/bin/env python3
"""The Debian package that `cargo deb` makes of what Cargo.toml lists: that the list is whole, and, where cargo-deb is installed, that
the package has what is listed, and does what it is for once it is unpacked."""

import gzip
import os
import re
import shutil
import subprocess
import tomllib

from support import ROOT, SSEGATE, Stage

DOCUMENTATION = "usr/share/doc/ssegate/"
#: Beside the documentation.
FILES = {
    "etc/ssegate/gateway.yaml",
    "usr/bin/ssegate",
    "usr/lib/systemd/system/ssegate.service",
    "usr/lib/systemd/system/ssegate.socket",
    "usr/share/bash-completion/completions/ssegate",
    "usr/share/fish/vendor_completions.d/ssegate.fish",
    "usr/share/man/man1/ssegate.1",
    "usr/share/ssegate/certbot-hook",
    "usr/share/zsh/vendor-completions/_ssegate",
}
PROGRAMS = {"usr/bin/ssegate", "usr/share/ssegate/certbot-hook"}
#: They are compressed in the package.
COMPRESSED = {"usr/share/man/man1/ssegate.1", DOCUMENTATION + "changelog"}
SCRIPTS = ("postinst", "postrm", "prerm")
MANIFEST = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]


def run(*command, **options):
    """What a command prints that succeeds."""
    command = [str(part) for part in command]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    assert result.returncode == 0, result
    return result.stdout


def listed():
    """Where each file goes, and its mode."""
    # From `license-file`, which would also make one of its own.
    files = {DOCUMENTATION + "copyright": "644"}
    for source, to, mode in MANIFEST["metadata"]["deb"]["assets"]:
        found = [ROOT / source] if source == "target/release/ssegate" else list(ROOT.glob(source))
        assert found, f"Cargo.toml: there is no {source}"
        for path in found:
            target = to + path.name if to.endswith("/") else to
            assert target not in files, f"Cargo.toml: {target} twice"
            files[target] = mode
    return files


def check_list(files):
    documents = {target for target in files if target.startswith(DOCUMENTATION)}
    assert set(files) - documents == FILES, set(files) ^ documents ^ FILES
    guide = {f"{DOCUMENTATION}docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert documents >= guide | {DOCUMENTATION + name for name in ("README.md", "changelog", "copyright")}, documents
    assert {target for target, mode in files.items() if mode == "755"} == PROGRAMS, files
    assert set(files.values()) == {"644", "755"}, files
    conffiles = {path for path in files if path.startswith("etc/")}
    assert {path.lstrip("/") for path in MANIFEST["metadata"]["deb"]["conf-files"]} == conffiles
    scripts = ROOT / MANIFEST["metadata"]["deb"]["maintainer-scripts"]
    for name in SCRIPTS:
        run("sh", "-n", scripts / name)
    for program in re.findall(r"^Exec\w+=[-+!@:]*(\S+)", (ROOT / "deploy/ssegate.service").read_text(), re.MULTILINE):
        # systemd looks for a name without a directory in /usr/local/bin and /usr/bin.
        assert program.startswith("/bin/") or f"usr/bin/{program}" in PROGRAMS, f"the unit starts {program}"


def check_control(package):
    def field(name):
        return run("dpkg-deb", "--field", package, name).strip()

    assert field("Version") == MANIFEST["version"].replace("-", "~", 1), field("Version")
    assert field("Architecture") == run("dpkg", "--print-architecture").strip()
    assert re.search(r"\blibc6 \(>= 2\.\d+\)", field("Depends")), field("Depends")


def check_files(root, files):
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    control = {path for path in found if path.startswith("DEBIAN/")}
    assert control == {f"DEBIAN/{name}" for name in ("conffiles", "control", *SCRIPTS)}, control
    expected = {target + ".gz" if target in COMPRESSED else target for target in files}
    assert set(found) - control == expected, set(found) ^ control ^ expected
    for target in PROGRAMS:
        assert found[target].stat().st_mode & 0o777 == 0o755, target
    assert (root / "DEBIAN/conffiles").read_text().split() == ["/etc/ssegate/gateway.yaml"]
    assert found[DOCUMENTATION + "copyright"].read_text() == (ROOT / "deploy/debian/copyright").read_text()


def check_program(root):
    program = root / "usr/bin/ssegate"
    assert run(program, "--version") == run(SSEGATE, "--version")
    run(program, "check", "-c", root / "etc/ssegate/gateway.yaml", cwd=root)
    manual = gzip.decompress((root / "usr/share/man/man1/ssegate.1.gz").read_bytes()).decode()
    assert re.search(r"^\.TH ssegate 1\b", manual, re.MULTILINE), manual[:200]
    completions = root / "usr/share/bash-completion/completions/ssegate"
    run("bash", "-n", completions)
    # As a shell asks: what can follow `ssegate che`?
    ask = 'source "$1"; COMP_WORDS=(ssegate che) COMP_CWORD=1; _ssegate ssegate che ssegate; printf "%s\\n" "${COMPREPLY[@]}"'
    assert run("bash", "-c", ask, "bash", completions).split() == ["check"]


def check_package(files):
    """Makes the package of the program that the tests have built, as if that was the release."""
    with Stage() as stage:
        program = stage.write("target/dist/ssegate", "")
        run("strip", "--strip-unneeded", "-o", program, SSEGATE)
        environment = {**os.environ, "CARGO_TARGET_DIR": str(stage.dir / "target")}
        # Compressing takes longer than all the rest.
        options = ("--no-build", "--no-strip", "--offline", "--locked", "--fast", "--compress-type", "gz", "--compress-system")
        run("cargo-deb", "--profile", "dist", *options, "--output", stage.dir, cwd=ROOT, env=environment)
        [made] = stage.dir.glob("*.deb")
        unpacked = stage.dir / "root"
        run("dpkg-deb", "--raw-extract", made, unpacked)
        check_control(made)
        check_files(unpacked, files)
        check_program(unpacked)


if __name__ == "__main__":
    FOUND = listed()
    check_list(FOUND)
    if shutil.which("cargo-deb"):
        check_package(FOUND)
        print(f"package: {len(FOUND)} files, made and tried")
    else:
        print(f"package: {len(FOUND)} files listed; for the rest, cargo-deb is missing")
