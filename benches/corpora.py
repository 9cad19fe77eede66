"""The data that programs are compared on: three corpora, each with a second state in which 1 % has changed.

    corpora.py KIND FOLDER BYTES     makes one

A corpus is a folder with

    data/       what is backed up; its path is the same in both states
    changed/    the changed files, by the same relative paths; `exchange` swaps them with those in data/
    made.json   how many files and bytes; written last, so a corpus without it is made again

Contents come from seeded generators; only the tree takes real files of this machine first, and is filled up with
generated text, so that it is the same in kind, not in every byte, on another machine.
"""

import itertools
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

# Counted up when a generator changes: corpora made by an older one are not used again.
GENERATION = 2

# At BYTES = 10**9; smaller corpora have proportionally fewer files of the same sizes.
TREE_FILES = 80_000
UPLOAD_FILES = 380
FULL_BYTES = 10**9

# Where real small files are looked for: packaged text and headers, then what Cargo and Go have unpacked.
TREE_PLACES = ("/usr/share", "/usr/include", "/usr/lib/python3", "~/.cargo/registry/src", "~/go/pkg/mod")
TREE_FILE_BYTES_MAX = 256 * 1024
# Files found on the machine make up at most this part of the tree.
TREE_FOUND_PART = 0.9

# Modification times lie in the past: programs distrust a file that changed a moment ago.
OLDEST_MTIME = 1_600_000_000
CHANGED_MTIME = OLDEST_MTIME + 90_000_000


def make(kind, folder, size):
    """Makes the corpus `kind` of about `size` bytes in `folder`."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    data, changed = folder / "data", folder / "changed"
    data.mkdir(parents=True)
    changed.mkdir()
    {"tree": make_tree, "uploads": make_uploads, "db": make_db}[kind](data, changed, size)
    # Younger than all others: borg never trusts its cache for the youngest file, and would otherwise read the only
    # file of a corpus again however unchanged it is.
    (data / "youngest").write_text("made last\n")
    files = [path for path in data.rglob("*") if path.is_file() and not path.is_symlink()]
    made = {"kind": kind, "files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    (folder / "made.json").write_text(json.dumps(made))
    return made


def exchange(folder):
    """Swaps the changed files with the others; a second call swaps them back. Inode numbers and times move along."""
    folder = Path(folder)
    for new in [path for path in (folder / "changed").rglob("*") if path.is_file()]:
        old = folder / "data" / new.relative_to(folder / "changed")
        aside = folder / "aside"
        old.rename(aside)
        new.rename(old)
        aside.rename(new)


def make_tree(data, changed, size):
    files_wanted = max(200, TREE_FILES * size // FULL_BYTES)
    rng = random.Random("tree")
    words = Words(rng)
    count, total = 0, 0
    for source, name in found_files():
        if count >= files_wanted * TREE_FOUND_PART or total >= size * TREE_FOUND_PART:
            break
        target = data / "found" / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
        except OSError:
            continue
        count, total = count + 1, total + target.stat().st_size
        set_mtime(target, rng)
    # What is missing in files and bytes, as source-like text. Sizes are skewed as in real trees.
    mean = max(512, (size - total) // max(1, files_wanted - count))
    while count < files_wanted:
        target = data / "generated" / f"module{count // 400:03}" / f"part{count % 400 // 20:02}" / f"file{count:05}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source_text(rng, words, min(int(rng.expovariate(1 / mean)) + 64, 40 * mean)))
        count += 1
        set_mtime(target, rng)
    # One file in a hundred is edited: a line goes in somewhere.
    regular = sorted(path for path in data.rglob("*") if path.is_file() and not path.is_symlink())
    for path in regular[50::100]:
        content = path.read_bytes()
        at = content.find(b"\n", rng.randrange(len(content) + 1)) + 1
        write_changed(changed / path.relative_to(data), [content[:at], source_text(rng, words, 60).encode(), content[at:]])


def found_files():
    """Small regular files of this machine, in a fixed order, with a name below the corpus."""
    for place in TREE_PLACES:
        root = os.path.expanduser(place)
        for parent, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(parent, name)
                if not os.path.islink(path) and os.path.isfile(path) and os.path.getsize(path) <= TREE_FILE_BYTES_MAX:
                    yield path, path.lstrip("/")


def make_uploads(data, changed, size):
    """Photographs, archives, films: nothing in them can be compressed. A hundredth is replaced by other files."""
    rng = random.Random("uploads")
    count = max(20, UPLOAD_FILES * size // FULL_BYTES)
    weights = [rng.lognormvariate(0, 1.2) for _ in range(count)]
    bytes_each = [max(1, int(size * weight / sum(weights))) for weight in weights]
    for number, file_bytes in enumerate(bytes_each):
        target = data / f"{number % 16:02x}" / f"upload{number:04}.bin"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(rng.randbytes(file_bytes))
        set_mtime(target, rng)
    # Files of about the mean size, one in a hundred.
    mean = size // count
    by_distance = sorted(range(count), key=lambda number: abs(bytes_each[number] - mean))
    for number in by_distance[: max(1, count // 100)]:
        write_changed(changed / f"{number % 16:02x}" / f"upload{number:04}.bin", [rng.randbytes(bytes_each[number])])


def make_db(data, changed, size):
    """A dump: one table as text, row after row. Then the next night's: rows edited in 40 places, others appended."""
    target = data / "dump.sql"
    rows = Rows(random.Random("db"))
    edits = Rows(random.Random("db edits"))
    places = max(2, 40 * size // FULL_BYTES)
    with open(target, "wb") as old, open_changed(changed / "dump.sql") as new:
        header = b"COPY public.orders (id, placed, customer, email, status, currency, cents, address, note) FROM stdin;\n"
        old.write(header)
        new.write(header)
        written, next_place = 0, size // places
        while written < size:
            block = rows.block(1000)
            old.write(block)
            if written >= next_place:
                # Half a percent in all: each edited run is 1/200 of the distance between two places.
                kept = block.find(b"\n", len(block) - min(len(block), size // places // 200)) + 1
                edited = edits.block(max(1, block.count(b"\n", kept)), first_id=rows.next_id - block.count(b"\n", kept))
                new.write(block[:kept] + edited)
                next_place += size // places
            else:
                new.write(block)
            written += len(block)
        appended = 0
        while appended < size // 200:
            block = rows.block(100)
            new.write(block)
            appended += len(block)
    set_mtime(target, random.Random("db"))
    os.utime(changed / "dump.sql", (CHANGED_MTIME, CHANGED_MTIME))


class Rows:
    """Rows as an application's table has them: running numbers, few states, repeated customers, some free text."""

    def __init__(self, rng):
        self.rng = rng
        self.next_id = 1
        self.seconds = OLDEST_MTIME
        self.day, self.day_text = 0, ""
        self.words = Words(rng)
        self.customers = [
            f"{rng.randbytes(16).hex()}\t{self.words.text(2).replace(' ', '.')}{number}@example.org"
            for number in range(20_000)
        ]
        self.addresses = [f"{rng.randrange(1, 200)} {self.words.text(2)} street, {self.words.text(1)}" for _ in range(5_000)]

    def block(self, count, first_id=None):
        rng, lines = self.rng, []
        row_id = self.next_id if first_id is None else first_id
        for number in range(row_id, row_id + count):
            self.seconds += rng.randrange(20)
            # Some customers order far more often than others.
            customer = self.customers[int(len(self.customers) * rng.random() ** 3)]
            placed = f"{self.date()} {self.seconds // 3600 % 24:02}:{self.seconds // 60 % 60:02}:{self.seconds % 60:02}"
            status = ("paid", "paid", "paid", "shipped", "shipped", "open", "cancelled", "refunded")[rng.getrandbits(3)]
            note = self.words.text(rng.getrandbits(4)) if rng.getrandbits(1) else "\\N"
            lines.append(
                f"{number}\t{placed}.{rng.getrandbits(19):06}+00\t{customer}\t{status}\tEUR\t{rng.getrandbits(16)}\t"
                f"{rng.choice(self.addresses)}\t{note}\n"
            )
        if first_id is None:
            self.next_id += count
        return "".join(lines).encode()

    def date(self):
        day = self.seconds // 86_400
        if day != self.day:
            self.day, self.day_text = day, time.strftime("%Y-%m-%d", time.gmtime(self.seconds))
        return self.day_text


class Words:
    """Words of a made-up language, a few of them frequent and most rare, as in any text."""

    def __init__(self, rng, count=6_000):
        self.rng = rng
        syllables = ["ba", "cor", "de", "el", "fin", "ga", "his", "in", "jo", "ka", "lor", "mi", "ne", "or", "pra", "qui", "re", "sta", "tu", "ver"]
        self.words = ["".join(rng.choices(syllables, k=rng.randrange(1, 5))) for _ in range(count)]
        self.cumulative = list(itertools.accumulate(1 / (rank + 3) for rank in range(count)))

    def text(self, count):
        return " ".join(self.rng.choices(self.words, cum_weights=self.cumulative, k=count))


def source_text(rng, words, size):
    """About `size` bytes that look like a program: indented lines of names, calls and numbers."""
    shapes = ("let {} = {}({});", "if {} < {} {{ return {}; }}", "// {} {} {}", "{}.{}(\"{}\")", "fn {}({}: {}) {{", "}} // {} {} {}")
    lines, length = [], 0
    while length < size:
        line = "    " * rng.randrange(4) + rng.choice(shapes).format(*words.text(3).split()) + f" {rng.getrandbits(10)}\n"
        lines.append(line)
        length += len(line)
    return "".join(lines)


def set_mtime(path, rng):
    seconds = OLDEST_MTIME + rng.randrange(80_000_000)
    os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + rng.randrange(10**9)))


def open_changed(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "wb")


def write_changed(path, parts):
    with open_changed(path) as file:
        file.writelines(parts)
    os.utime(path, (CHANGED_MTIME, CHANGED_MTIME))


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], int(sys.argv[3]))
