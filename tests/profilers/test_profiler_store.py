"""The store: nothing acknowledged is lost, nothing torn is read, nothing mixed is accepted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError, DataError, InputError, ProfilerError
from profilers import store as stores
from profilers.store import RECORDS, Disk, Store, read

FACTS = {"cpu": "abacus", "torch": "2.13"}


def open_store(folder, **options):
    return Store(folder, FACTS, fingerprint="f00d", durable=False, **options)


def filled(folder, count=3):
    with open_store(folder) as store:
        for index in range(count):
            store.append(f"case-{index}", {"value": index, "text": "ü\n" * index})
    return folder / RECORDS


def test_records_come_back_as_they_went_in(tmp_path):
    class Weight(msgspec.Struct, frozen=True):
        grams: float

    with open_store(tmp_path) as store:
        store.append("a", Weight(grams=1.25))
        assert store.done == {"a"}
    contents = read(tmp_path)
    assert contents.cases == {"a"}
    assert contents.entries[0].decode(Weight) == Weight(grams=1.25)
    assert contents.header is not None
    assert contents.header.facts == FACTS


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)  # fmt: skip
def test_any_finite_payload_survives(tmp_path_factory, payload):
    folder = tmp_path_factory.mktemp("any")
    with open_store(folder) as store:
        store.append("a", payload)
    assert read(folder).entries[0].decode() == payload


def test_reopening_appends_and_knows_what_is_done(tmp_path):
    filled(tmp_path, 2)
    with open_store(tmp_path) as store:
        assert store.done == {"case-0", "case-1"}
        store.append("case-2", {})
    assert [entry.case for entry in read(tmp_path).entries] == ["case-0", "case-1", "case-2"]


def test_a_file_cut_at_any_byte_keeps_every_whole_record_and_can_go_on(tmp_path):
    path = filled(tmp_path / "whole")
    data = path.read_bytes()
    ends = [index for index, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data)):
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / RECORDS).write_bytes(data[:length])
        whole = sum(1 for end in ends[1:] if end <= length)
        contents = read(folder)
        assert len(contents.entries) == whole
        assert contents.whole_B + contents.torn_B == length
        with open_store(folder) as store:
            assert len(store.done) == whole
            store.append("after", {"length": length})
        after = read(folder)
        assert len(after.entries) == whole + 1
        assert after.torn_B == 0
        assert (folder / RECORDS).read_bytes().count(b"\n") == whole + 2


@pytest.mark.parametrize("line", [1, 2, 3])
def test_damage_inside_names_the_line_and_is_never_appended_to(tmp_path, line):
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"0", b"1", 1).replace(b"a", b"b", 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(DataError, match=f"line {line} is damaged"):
        read(tmp_path)
    with pytest.raises(DataError, match="checksum"):
        open_store(tmp_path)
    assert path.read_bytes() == b"".join(lines)


def test_every_flipped_byte_of_a_record_is_noticed(tmp_path):
    path = filled(tmp_path, 2)
    data = path.read_bytes()
    start = data.index(b"\n") + 1
    end = data.index(b"\n", start)
    original = read(tmp_path).entries
    for position in range(start, end):
        broken = bytearray(data)
        broken[position] ^= 0x01
        path.write_bytes(bytes(broken))
        try:
            contents = read(tmp_path)
        except DataError:
            continue
        assert contents.entries == original, f"byte {position} changed a record unnoticed"


def test_other_environments_are_refused_and_the_difference_is_named(tmp_path):
    filled(tmp_path)
    with pytest.raises(ConfigError, match=r"torch was '2\.13', is '2\.14'"):
        Store(tmp_path, {**FACTS, "torch": "2.14"}, fingerprint="beef")
    assert len(read(tmp_path).entries) == 3


def test_records_of_another_environment_in_the_file_are_refused(tmp_path):
    path = filled(tmp_path / "a", 1)
    with Store(tmp_path / "b", {"cpu": "other"}, fingerprint="beef", durable=False) as store:
        store.append("case-9", {})
    foreign = (tmp_path / "b" / RECORDS).read_bytes()
    mine = path.read_bytes()
    path.write_bytes(mine + foreign.splitlines(keepends=True)[1])
    with pytest.raises(DataError, match="line 3 was not measured in this store's environment"):
        read(tmp_path / "a")
    path.write_bytes(mine + foreign)
    with pytest.raises(DataError, match="second header"):
        read(tmp_path / "a")


def test_a_newer_schema_is_refused(tmp_path):
    header = stores.Header(schema=stores.SCHEMA + 1, environment="f00d", facts=FACTS)
    (tmp_path / RECORDS).write_bytes(stores.encode_line(header) + b"\n")
    with pytest.raises(DataError, match="newer version"):
        read(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    with open_store(tmp_path) as store:
        with pytest.raises(ProfilerError, match="not a finite number"):
            store.append("a", {"metrics": [1.0, {"time_s": value}]})
        store.append("b", {"metrics": [1.0]})
    assert read(tmp_path).cases == {"b"}


def test_a_second_run_in_this_process_and_in_another_is_refused(tmp_path):
    code = (
        "import sys; from profilers.store import Store; from analyzer.errors import InputError\n"
        "try: Store(sys.argv[1], {}, fingerprint='f00d')\n"
        "except InputError as error: print(error); sys.exit(3)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with open_store(tmp_path) as store:
        with pytest.raises(InputError, match=f"in use by another run \\(process {os.getpid()}\\)"):
            open_store(tmp_path)
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode == 3
        assert str(os.getpid()) in other.stdout
        store.append("a", {})
    with open_store(tmp_path) as store:
        assert store.done == {"a"}


def test_a_stale_lock_file_does_not_lock(tmp_path):
    (tmp_path / stores.LOCK).write_text("999999\n")
    with open_store(tmp_path) as store:
        store.append("a", {})


class FailingDisk(Disk):
    """Accepts so many bytes and then fails, as a full or broken disk does."""

    def __init__(self, room_B: int, error: int = errno.ENOSPC) -> None:
        self.room_B = room_B
        self.error = error

    def write(self, descriptor, data):
        if self.room_B <= 0:
            raise OSError(self.error, os.strerror(self.error))
        part = data[: self.room_B]
        self.room_B -= len(part)
        return super().write(descriptor, part)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_at_every_byte_is_a_clear_error_and_loses_nothing(tmp_path, error):
    path = filled(tmp_path, 2)
    before = path.read_bytes()
    disk = FailingDisk(10**9, error)
    with open_store(tmp_path, disk=disk) as store:
        for room in range(0, 120, 7):
            disk.room_B = room
            with pytest.raises(ProfilerError, match=r"not stored: .*run again to go on"):
                store.append("big", {"x": "y" * 200})
            assert path.read_bytes() == before
            assert "big" not in store.done
        disk.room_B = 10**9
        store.append("big", {"x": "y" * 200})
    assert read(tmp_path).cases == {"case-0", "case-1", "big"}


def test_a_failing_sync_is_not_acknowledged(tmp_path):
    class Unsynced(Disk):
        def sync(self, descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_store(tmp_path):
        pass
    with Store(tmp_path, FACTS, fingerprint="f00d", disk=Unsynced()) as store:
        with pytest.raises(ProfilerError, match="not stored"):
            store.append("a", {})
        assert store.done == set()
    assert read(tmp_path).entries == ()


def test_a_read_only_folder_is_a_clear_error(tmp_path, monkeypatch):
    """Root may write anywhere, so the refusal of the system call itself is injected."""

    class ReadOnly(Disk):
        def open_append(self, path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(ProfilerError, match="cannot be written: Read-only file system"):
        open_store(tmp_path, disk=ReadOnly())
    with pytest.raises(ProfilerError, match="cannot be written"):
        open_store("/proc/nowhere")
    with open_store(tmp_path) as store:  # the failed try gave its lock back
        store.append("a", {})
    monkeypatch.setattr(stores.Path, "read_bytes", lambda path: ReadOnly().open_append(path))
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_a_closed_store_takes_nothing(tmp_path):
    store = open_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ProfilerError, match="closed"):
        store.append("a", {})


def test_durable_records_are_synced(tmp_path):
    synced = []

    class Counting(Disk):
        def sync(self, descriptor):
            synced.append(descriptor)
            super().sync(descriptor)

    with Store(tmp_path, FACTS, fingerprint="f00d", disk=Counting()) as store:
        store.append("a", {})
        store.append("b", {})
    assert len(synced) == 3  # the header too
