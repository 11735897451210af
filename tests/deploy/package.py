#!/usr/bin/env python3
"""The Debian package that deploy/deb makes: what is in it, what it asks for, and that it does what it is for once it is unpacked."""

import gzip
import os
import re
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
    "usr/share/man/man1/ssegate.1.gz",
    "usr/share/ssegate/certbot-hook",
    "usr/share/zsh/vendor-completions/_ssegate",
}


def run(*command, **options):
    """What a command prints that succeeds."""
    command = [str(part) for part in command]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    assert result.returncode == 0, result
    return result.stdout


def check_control(package):
    def field(name):
        return run("dpkg-deb", "--field", package, name).strip()

    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert field("Version") == version.replace("-", "~", 1), field("Version")
    assert field("Architecture") == run("dpkg", "--print-architecture").strip()
    assert re.match(r"libc6 \(>= 2\.\d+\)", field("Depends")), field("Depends")


def check_files(root):
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    control = {path for path in files if path.startswith("DEBIAN/")}
    assert control == {f"DEBIAN/{name}" for name in ("conffiles", "control", "md5sums", "postinst", "postrm", "prerm")}, control
    documents = {path for path in files if path.startswith(DOCUMENTATION)}
    assert files - control - documents == FILES, files ^ control ^ documents ^ FILES
    guide = {f"{DOCUMENTATION}docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert documents >= guide | {DOCUMENTATION + name for name in ("README.md", "changelog.gz", "copyright")}, documents
    run("md5sum", "--check", "--quiet", "DEBIAN/md5sums", cwd=root)
    [conffile] = (root / "DEBIAN/conffiles").read_text().split()
    assert conffile.lstrip("/") in FILES
    for name in ("postinst", "postrm", "prerm"):
        run("sh", "-n", root / "DEBIAN" / name)
    return len(files - control)


def check_units(root):
    for unit in ("ssegate.service", "ssegate.socket"):
        text = (root / "usr/lib/systemd/system" / unit).read_text()
        assert "/usr/local/" not in text, unit
        for program in re.findall(r"^Exec\w+=[-+!@:]*(/\S+)", text, re.MULTILINE):
            assert program.startswith("/bin/") or program.lstrip("/") in FILES, f"{unit} starts {program}"


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


if __name__ == "__main__":
    with Stage() as stage:
        # Compressing takes longer than all the rest, and dpkg-deb does it as well as ever.
        run(ROOT / "deploy/deb", SSEGATE, stage.dir, env={**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "none"})
        [made] = stage.dir.glob("*.deb")
        unpacked = stage.dir / "root"
        run("dpkg-deb", "--raw-extract", made, unpacked)
        check_control(made)
        check_units(unpacked)
        count = check_files(unpacked)
        check_program(unpacked)
        print(f"package: {count} files")
