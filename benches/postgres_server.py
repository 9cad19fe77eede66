"""A server of PostgreSQL of a benchmark's own, and the rows that it is filled with."""

import os
import pwd
import subprocess
import sys
import time


class Server:
    """A server of its own on a socket. PostgreSQL refuses root, so root runs it as nobody."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, os.path.join(folder, "pg")
        self.process = None
        self.environment = dict(os.environ, PGHOST=self.folder, PGUSER="postgres", LC_ALL="C")

    def start(self):
        os.mkdir(self.folder)
        user = None
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody").pw_uid
            os.chown(self.folder, user, user)
        data = os.path.join(self.folder, "data")
        drop = {"user": user, "group": user, "extra_groups": []} if user else {}
        run = lambda *command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **drop)
        run(self.program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "shared_buffers": "512MB",
                    "max_wal_size": "4GB", "autovacuum": "off"}
        command = [self.program("postgres"), "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = open(os.path.join(self.folder, "log"), "w")
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **drop)
        while subprocess.run([self.program("psql"), "-c", "SELECT 1", "postgres"], env=self.environment,
                             capture_output=True).returncode:
            if self.process.poll() is not None:
                sys.exit(open(log.name).read())
            time.sleep(0.1)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def program(self, name):
        return os.path.join(self.programs, name)

    def sql(self, database, text):
        subprocess.run([self.program("psql"), "-qX", "-v", "ON_ERROR_STOP=1", database, "-c", text],
                       env=self.environment, check=True, stdout=subprocess.DEVNULL)


# A row of about 250 bytes: half text that repeats itself, half that does not.
ROWS = """SELECT n AS id, now() - n * interval '1 s' AS at, (n % 50000 * 7919) % 50000 AS person,
  (ARRAY['login','logout','purchase','view'])[1 + n % 4] AS kind,
  'the quick brown fox jumps over the lazy dog, row ' || n AS note, md5(n::text) || md5((n * 3)::text) AS token,
  md5((n * 5)::text) || md5((n * 7)::text) AS other FROM generate_series({first}, {last}) AS n"""


def fill(server, size):
    count = int(size * 1e9 / 250)
    server.rows = count
    server.sql("postgres", "CREATE DATABASE app")
    half = count // 2
    for table in ("events", "visits"):
        server.sql("app", f"CREATE TABLE {table} AS {ROWS.format(first=1, last=half)}")
        server.sql("app", f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
        server.sql("app", f"CREATE INDEX ON {table} (person)")
    server.sql("app", "VACUUM ANALYZE")
    subprocess.run([server.program("pg_dump"), "-Fc", "-Z0", "app"], env=server.environment, check=True,
                   stdout=subprocess.DEVNULL)
