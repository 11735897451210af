#!/usr/bin/env python3
"""What is handed on is built in one way: with the profile `dist`, as one program, from the lock file. What the Dockerfile copies is in its context."""

import re
import tomllib

from support import ROOT

#: Where a program is built to be handed on, and how many.
BUILDERS = {"Dockerfile": 1, ".github/workflows/release.yml": 2, "deploy/README.md": 1}


def check_profile():
    profiles = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]
    dist, release = profiles["dist"], profiles["release"]
    assert (dist["inherits"], dist["lto"], dist["codegen-units"]) == ("release", "fat", 1), dist
    assert release["strip"] == "symbols", release
    # The benchmarks measure what is handed on.
    assert (profiles["bench"]["lto"], profiles["bench"]["codegen-units"]) == (dist["lto"], dist["codegen-units"])


def check_builders():
    for name, count in BUILDERS.items():
        text = (ROOT / name).read_text()
        builds = re.findall(r"cargo build[^\n\\]*", text)
        assert len(builds) == count, f"{name}: {builds}"
        for build in builds:
            assert "--profile dist" in build and "--locked" in build, f"{name}: {build}"
        programs = re.findall(r"\btarget/\S*?(\w+)/ssegate\b", text)
        assert programs and set(programs) == {"dist"}, f"{name}: {programs}"
    return sum(BUILDERS.values())


def check_context():
    """Docker sends nothing else than what .dockerignore lets through."""
    ignored, *passed = (ROOT / ".dockerignore").read_text().split()
    assert ignored == "*"
    passed = [pattern.removeprefix("!") for pattern in passed]
    for pattern in passed:
        assert list(ROOT.glob(pattern)), f".dockerignore: there is no {pattern}"
    installed = re.findall(r"install -D -m \d+ (\S+)", (ROOT / "Dockerfile").read_text())
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    members = [member.split("/")[0] for member in manifest["workspace"]["members"]]
    needed = {*installed, *members, *included(), "Cargo.toml", "Cargo.lock", "build.rs", manifest["package"]["readme"]}
    for path in needed:
        parts = [ROOT / path, *(ROOT / path).parents]
        assert any(part.match(str(ROOT / pattern)) for part in parts for pattern in passed), f"the Dockerfile needs {path}"
    return len(needed)


def included():
    """The files that become a part of the program when it is compiled, those of tests left out."""
    for source in [*ROOT.glob("src/**/*.rs"), *ROOT.glob("crates/*/src/**/*.rs")]:
        code = source.read_text().split("#[cfg(test)]")[0]
        if "tests" not in source.relative_to(ROOT).with_suffix("").parts:
            for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', code):
                yield str((source.parent / name).resolve().relative_to(ROOT))


if __name__ == "__main__":
    check_profile()
    print(f"builds: {check_builders()} with the profile dist, {check_context()} files and directories for the image")
