"""A PostgreSQL server of the tests' own, in a folder to throw away, from what Debian's package `postgresql` brings."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

USER, DATABASE = "searcher", "studies"
SECRET = "pass.word-%41"


class Server:
    """A server on a free port of this machine, which takes the user `searcher` with the password `SECRET`.

    PostgreSQL does not run as root: then it runs as the user that Debian makes for it.
    """

    def __init__(self, *, waits_for_disk: bool = False) -> None:
        self._fsync = "on" if waits_for_disk else "off"
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
        assert found, "there is no PostgreSQL here: apt-get install postgresql"
        self._programs = found[-1].parent
        self._as_user = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        # Below /tmp, as that user may not look into the folders that pytest makes.
        self.folder = Path(tempfile.mkdtemp(prefix="unet-search-postgresql-"))
        self.folder.chmod(0o777)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = self.folder / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o644)
        self._call("initdb", "-D", self.data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        self.start()
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int:
        """The process of the server, from which all others come."""
        return int(Path(self.data, "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync={self._fsync}"
        self._call("pg_ctl", "start", "-w", "-D", self.data, "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self.data)

    def sql(self, command: str, database: str = DATABASE) -> str:
        asked = ("-At", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database, "-c", command)
        return self._call("psql", *asked, PGPASSWORD=SECRET)

    def close(self) -> None:
        """Ends it for sure, and takes its folder away."""
        try:
            if Path(self.data, "postmaster.pid").exists():
                pid = self.pid
                try:
                    self.stop()
                except subprocess.CalledProcessError:
                    os.kill(pid, signal.SIGKILL)
        finally:
            shutil.rmtree(self.folder)

    def _call(self, program: str, *words: str, **environment: str) -> str:
        command: Sequence[str] = (*self._as_user, str(self._programs / program), *words)
        # The server keeps what it is started with open, so its output must not be a pipe that is read to its end.
        with tempfile.TemporaryFile("w+") as out:
            try:
                subprocess.run(
                    command, cwd="/", env=os.environ | environment, stdout=out, stderr=out, check=True, timeout=60
                )
            except subprocess.CalledProcessError as error:
                out.seek(0)
                error.add_note(out.read())
                raise
            out.seek(0)
            return out.read().strip()
