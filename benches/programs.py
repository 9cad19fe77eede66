"""The programs that are compared: how each one does each of the five things, with its own defaults.

Every program encrypts (except the limit, which cannot) and compresses as it does when nobody says otherwise.
"""

import os
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
PASSPHRASE = "correct horse battery staple"


class Program:
    """One program. A step is an argument list, a line for bash, or None for what the program has no way to do.

    Snapshots are made of `data` as the runs "first", "unchanged" and "changed"; the last one is what is restored.
    """

    name = ""
    # What its defaults are, for the reader of the table.
    settings = ""

    def __init__(self, binary):
        self.binary = str(binary)

    def environment(self):
        """The variables it needs; the folders for its caches are given by the caller, new for each round."""
        return {}

    def version(self):
        found = subprocess.run([self.binary, *self.version_arguments], capture_output=True, text=True, check=False)
        return (found.stdout.splitlines() or ["unknown version"])[0].strip("* ")

    version_arguments = ["--version"]


class Ours(Program):
    name = "backup"
    settings = "defaults"

    def environment(self):
        return {"BACKUP_PASSWORD": PASSPHRASE}

    def init(self, repo):
        return [self.binary, "-r", repo, "init"]

    def create(self, repo, data, run):
        return [self.binary, "-r", repo, "create", data]

    def restore(self, repo, data, target):
        return [self.binary, "-r", repo, "restore", "latest", "--to", target]

    def check(self, repo):
        return [self.binary, "-r", repo, "check", "--read-data"]


class Restic(Program):
    name = "restic"
    settings = "defaults: zstd level 3"
    version_arguments = ["version"]

    def environment(self):
        return {"RESTIC_PASSWORD": PASSPHRASE}

    def init(self, repo):
        return [self.binary, "-r", repo, "init"]

    def create(self, repo, data, run):
        return [self.binary, "-r", repo, "backup", data]

    def restore(self, repo, data, target):
        return [self.binary, "-r", repo, "restore", "latest", "--target", target]

    def check(self, repo):
        return [self.binary, "-r", repo, "check", "--read-data"]


class Rustic(Program):
    name = "rustic"
    settings = "defaults: zstd level 3"

    def environment(self):
        return {"RUSTIC_PASSWORD": PASSPHRASE, "RUSTIC_NO_PROGRESS": "true"}

    def init(self, repo):
        return [self.binary, "-r", repo, "init"]

    def create(self, repo, data, run):
        return [self.binary, "-r", repo, "backup", data]

    def restore(self, repo, data, target):
        return [self.binary, "-r", repo, "restore", "latest", target]

    def check(self, repo):
        return [self.binary, "-r", repo, "check", "--read-data"]


class Borg(Program):
    name = "borg"
    settings = "repokey-blake2; default compression: lz4"

    def environment(self):
        return {"BORG_PASSPHRASE": PASSPHRASE, "BORG_EXIT_CODES": "modern"}

    def init(self, repo):
        return [self.binary, "init", "--encryption=repokey-blake2", repo]

    def create(self, repo, data, run):
        return [self.binary, "create", f"{repo}::{run}", data]

    def restore(self, repo, data, target):
        # It extracts into the folder it runs in.
        return f'cd "{target}" && exec "{self.binary}" extract "{repo}::changed"'

    def check(self, repo):
        return [self.binary, "check", "--verify-data", repo]


class Kopia(Program):
    name = "kopia"
    settings = "defaults: content not compressed"

    def environment(self):
        return {"KOPIA_PASSWORD": PASSPHRASE, "KOPIA_CHECK_FOR_UPDATES": "false"}

    def init(self, repo):
        return [self.binary, "repository", "create", "filesystem", "--path", repo]

    def create(self, repo, data, run):
        return [self.binary, "snapshot", "create", "--no-progress", data]

    def restore(self, repo, data, target):
        return [self.binary, "snapshot", "restore", "--no-progress", data, target]

    def check(self, repo):
        return [self.binary, "snapshot", "verify", "--no-progress", "--verify-files-percent=100"]


class TarZstd(Program):
    name = "tar|zstd"
    settings = "the limit: zstd -3 -T0; not encrypted, not incremental"

    def init(self, repo):
        return ["mkdir", repo]

    def create(self, repo, data, run):
        # It cannot know what is unchanged; with 1 % changed it does everything again.
        return None if run == "unchanged" else f'tar -cPf - "{data}" | zstd -3 -T0 -q -f -o "{repo}/tar.zst"'

    def restore(self, repo, data, target):
        return f'zstd -dcq "{repo}/tar.zst" | tar -xf - -C "{target}"'

    def check(self, repo):
        return [self.binary, "-tq", f"{repo}/tar.zst"]


PROGRAMS = (Ours, Restic, Rustic, Borg, Kopia, TarZstd)
NAMES = tuple(program.name for program in PROGRAMS)


def find(names, ours):
    """The programs of these names, and for each that is not to be had the reason."""
    present, absent = [], {}
    for program in PROGRAMS:
        if program.name not in names:
            continue
        if program is Ours:
            if os.access(ours, os.X_OK):
                present.append(Ours(Path(ours).resolve()))
            else:
                absent[program.name] = f"{ours} is not there: cargo build --release"
        elif program is TarZstd:
            present.append(TarZstd("zstd"))
        else:
            installed = subprocess.run([SCRIPTS / "tools", program.name], capture_output=True, text=True, check=False)
            if installed.returncode == 0:
                present.append(program(installed.stdout.split(maxsplit=1)[1].strip()))
            else:
                absent[program.name] = (installed.stderr.strip().splitlines() or ["not installed"])[-1]
    return present, absent
