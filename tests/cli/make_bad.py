#!/usr/bin/env python3
"""Checkpoints that are broken in one way each.

    make_bad.py OUT          makes OUT/NAME/DIR for every case below
    make_bad.py --list       prints a line for each: NAME COMMANDS

bad.bats runs the program in OUT/NAME on the folder DIR, and compares its one
line with tests/golden/bad/NAME.txt. Both `plan` and `quantize` must say it,
but for cases in QUANTIZE_ONLY, which only weights show.

A case is a function of the class Cases; its name, with - for _, is the case's,
and its docstring says what is wrong. It gets the folder of a good checkpoint
of two shards and breaks it. Cases that differ in a few bytes only stand in the
tables below: a header's whole text, one field of an entry, an index, a config.
"""

import json
import os
import shutil
import socket
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "reference"))
import checkpoints  # noqa: E402  (needs the path)

INDEX = "model.safetensors.index.json"
ONE = "model-00001-of-00002.safetensors"
TWO = "model-00002-of-00002.safetensors"

SHAPE = {"hidden": 64, "inter": 48, "head": 16, "heads": 2, "kv_heads": 2,
         "key": 32, "value": 64, "linear_heads": 4, "vision": 16,
         "vision_inter": 20, "vocab": 40, "experts": 2}

LAYER = "model.language_model.layers."
NORM = "model.language_model.norm.weight"
Q_PROJ = LAYER + "3.self_attn.q_proj.weight"
QKV = LAYER + "0.linear_attn.in_proj_qkv.weight"
GATE_UP = LAYER + "1.mlp.experts.gate_up_proj"

NAN, INF, MINUS_INF = 0x7FC0, 0x7F80, 0xFF80  # as BF16


# ---- tools ------------------------------------------------------------------

class Shard:
    """A shard to be changed: entries (name, entry) in order, and data."""

    def __init__(self, folder, name):
        self.path = os.path.join(folder, name)
        with open(self.path, "rb") as file:
            raw = file.read()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:8 + size])
        self.metadata = header.pop("__metadata__")
        # In the order of the data, so that "first" and "second" mean that.
        self.entries = sorted(([n, e] for n, e in header.items()),
                              key=lambda item: item[1]["data_offsets"])
        self.data = raw[8 + size:]

    def entry(self, i):
        return self.entries[i][1]

    def write(self, text=None, data=None):
        """Entries may name a key twice: they are printed one by one."""
        if text is None:
            members = [("__metadata__", self.metadata)] + self.entries
            text = "{" + ",".join(json.dumps(k) + ":" + json.dumps(v)
                                  for k, v in members) + "}"
        if isinstance(text, str):
            text = text.encode()
        write_bytes(self.path, len(text).to_bytes(8, "little") + text
                    + (self.data if data is None else data))


def write_bytes(path, content):
    """The files of a case are links to those of the good checkpoint."""
    if isinstance(content, str):
        content = content.encode()
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(content)


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def edit_json(folder, name, change):
    path = os.path.join(folder, name)
    document = json.loads(read_bytes(path))
    document = change(document) or document
    write_bytes(path, json.dumps(document, indent=2).encode())


def edit_index(folder, change):
    edit_json(folder, INDEX, lambda index: change(index["weight_map"]))


def set_length(folder, length):
    raw = read_bytes(os.path.join(folder, ONE))
    write_bytes(os.path.join(folder, ONE), struct.pack("<Q", length) + raw[8:])


def change_entry(folder, **fields):
    """Other fields for the first tensor of the first shard."""
    shard = Shard(folder, ONE)
    shard.entry(0).update(fields)
    shard.write()


def set_field(folder, field, raw):
    """Another JSON text for a field of the first tensor."""
    shard = Shard(folder, ONE)
    shard.entry(0)[field] = "HERE"
    members = [("__metadata__", shard.metadata)] + shard.entries
    text = "{" + ",".join(json.dumps(k) + ":" + json.dumps(v)
                          for k, v in members) + "}"
    shard.write(text.replace('"HERE"', raw))


def no_tensors(folder, extra):
    """A header of one empty tensor and what `extra` adds to it."""
    text = '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    Shard(folder, ONE).write(text + extra, data=b"")


def loop(folder, name):
    """A link to itself."""
    remove(folder, name)
    os.symlink(name, os.path.join(folder, name))


def write_sparse(path, size):
    """Zeros that take no space."""
    write_bytes(path, b"")
    os.truncate(path, size)


def home_of(folder, tensor):
    return json.loads(read_bytes(os.path.join(folder, INDEX)))[
        "weight_map"][tensor]


def set_weight(folder, tensor, element, bits):
    shard = Shard(folder, home_of(folder, tensor))
    begin = dict(shard.entries)[tensor]["data_offsets"][0] + 2 * element
    data = bytearray(shard.data)
    data[begin:begin + 2] = struct.pack("<H", bits)
    shard.write(data=bytes(data))


def reshape(folder, tensor, shape, dtype="BF16"):
    """Another shape of the same size."""
    shard = Shard(folder, home_of(folder, tensor))
    dict(shard.entries)[tensor].update(shape=shape, dtype=dtype)
    shard.write()


def add_tensor(folder, name, shape=(2, 2)):
    """One more at the end of the second shard, in the index too."""
    shard = Shard(folder, TWO)
    size = 2
    for dim in shape:
        size *= dim
    end = len(shard.data)
    shard.entries.append([name, {"dtype": "BF16", "shape": list(shape),
                                 "data_offsets": [end, end + size]}])
    shard.write(data=shard.data + bytes(size))
    edit_index(folder, lambda weight_map: weight_map.update({name: TWO}))
    edit_json(folder, INDEX, lambda index: index["metadata"].update(
        total_size=index["metadata"]["total_size"] + size))


def remove(folder, *names):
    for name in names:
        os.unlink(os.path.join(folder, name))


def set_config(folder, **members):
    edit_json(folder, "config.json", lambda config: config.update(members))


# ---- the cases --------------------------------------------------------------

class Cases:
    # -- a shard that is no safetensors file

    def shard_empty(d):
        """0 bytes"""
        write_bytes(os.path.join(d, ONE), b"")

    def shard_of_7_bytes(d):
        """shorter than the length of its header"""
        write_bytes(os.path.join(d, ONE), b"1234567")

    def shard_truncated_in_header(d):
        """ends within its header"""
        raw = read_bytes(os.path.join(d, ONE))
        write_bytes(os.path.join(d, ONE), raw[:200])

    def shard_truncated_in_data(d):
        """100 bytes short"""
        raw = read_bytes(os.path.join(d, ONE))
        write_bytes(os.path.join(d, ONE), raw[:-100])

    def shard_trailing_bytes(d):
        """9 bytes behind the last tensor"""
        raw = read_bytes(os.path.join(d, ONE))
        write_bytes(os.path.join(d, ONE), raw + b"surplus!\n")

    def shard_of_text(d):
        """a text, whose first 8 bytes are read as a length"""
        write_bytes(os.path.join(d, ONE), b"version https://git-lfs.github\n")

    def header_length_0(d):
        """no header at all"""
        set_length(d, 0)

    def header_length_2_63(d):
        """2^63, negative if signed"""
        set_length(d, 1 << 63)

    def header_length_2_64_less_8(d):
        """8 more would be 0"""
        set_length(d, (1 << 64) - 8)

    def header_length_beyond_file(d):
        """one more than the file has"""
        set_length(d, os.path.getsize(os.path.join(d, ONE)) - 8 + 1)

    def header_length_over_limit(d):
        """100,000,001 in a file that is as large"""
        set_length(d, 100_000_001)
        os.truncate(os.path.join(d, ONE), 100_000_009)

    def header_length_1(d):
        """an opening brace"""
        Shard(d, ONE).write("{", data=b"")

    def header_of_10_million_entries(d):
        """500 MB, were they there"""
        set_length(d, 500_000_000)
        os.truncate(os.path.join(d, ONE), 500_000_008)

    def shard_of_a_terabyte(d):
        """a hole of 2^40 bytes behind the last tensor"""
        raw = read_bytes(os.path.join(d, ONE))
        write_bytes(os.path.join(d, ONE), raw)
        os.truncate(os.path.join(d, ONE), 1 << 40)

    # -- a header that is no good JSON

    def header_array(d):
        """an array"""
        Shard(d, ONE).write("[1, 2, 3]")

    def header_not_json(d):
        """single quotes"""
        Shard(d, ONE).write("{'a': 1}")

    def header_cut(d):
        """no closing brace"""
        shard = Shard(d, ONE)
        shard.write('{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}')

    def header_text_behind(d):
        """text behind the closing brace"""
        Shard(d, ONE).write("{} {}")

    def header_nul_padding(d):
        """padded with NUL instead of spaces"""
        shard = Shard(d, ONE)
        shard.write(json.dumps(dict(shard.entries)) + "\0\0\0")

    def header_invalid_utf8(d):
        """a name in Latin-1"""
        shard = Shard(d, ONE)
        shard.write(b'{"caf\xe9":{"dtype":"BF16","shape":[1],'
                    b'"data_offsets":[0,2]}}')

    def header_nul_in_name(d):
        """\\u0000 in a name"""
        shard = Shard(d, ONE)
        shard.entries[0][0] = "a\0b"
        shard.write()

    def header_deep(d):
        """100,000 brackets deep"""
        Shard(d, ONE).write('{"a":' + "[" * 100_000)

    def header_million_deep(d):
        """1,000,000 brackets in __metadata__"""
        no_tensors(d, ',"__metadata__":{"a":' + "[" * 1_000_000)

    def header_million_tensors(d):
        """1,000,001 tensors without elements"""
        no_tensors(d, "".join(
            f',"{i:07}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
            for i in range(1_000_000)) + "}")

    def header_full(d):
        """as many and as long names as there may be, and one of them twice"""
        no_tensors(d, "".join(
            f',"{i:035}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
            for i in range(999_998, -1, -1)).replace(
                "%035d" % 7, "%035d" % 8, 1) + "}")

    def header_names_of_100_mb(d):
        """200,000 names of 500 bytes: longer in all than they may be"""
        no_tensors(d, "".join(
            f',"{i:0430}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
            for i in range(200_000)) + "}")

    def header_hundred_thousand_overlaps(d):
        """100,000 tensors that all have the same bytes"""
        Shard(d, ONE).write("{" + ",".join(
            f'"{i}":{{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}'
            for i in range(100_000)) + "}", data=bytes(9))

    def header_name_of_1_mb(d):
        """a tensor's name of 1 MB"""
        no_tensors(d, ',"' + "n" * 1_000_000 + '":{}}')

    def header_key_of_1_mb(d):
        """a field's name of 1 MB"""
        no_tensors(d, ',"b":{"' + "k" * 1_000_000 + '":1}}')

    def header_metadata_of_5_mb(d):
        """more to say than fits"""
        shard = Shard(d, ONE)
        shard.metadata = {"format": "pt", "note": "x" * 5_000_000}
        shard.write()

    def header_metadata_many_keys(d):
        """300,000 keys in __metadata__, the first once more at the end"""
        no_tensors(d, ',"__metadata__":{' + ",".join(
            f'"{i:x}":""' for i in [*range(300_000), 0]) + "}}")

    def header_duplicate_name(d):
        """two tensors of one name"""
        shard = Shard(d, ONE)
        shard.entries[1][0] = shard.entries[0][0]
        shard.write()

    def header_two_metadata(d):
        """__metadata__ twice"""
        shard = Shard(d, ONE)
        shard.entries.append(["__metadata__", {"format": "pt"}])
        shard.write()

    def header_metadata_number(d):
        """a number in __metadata__"""
        shard = Shard(d, ONE)
        shard.metadata = {"format": 1}
        shard.write()

    def header_metadata_key_twice(d):
        """a key of __metadata__ twice"""
        no_tensors(d, ',"__metadata__":{"a":"1","b":"2","\\u0061":"3"}}')

    # -- entries of a header

    def entry_hole(d):
        """64 bytes that belong to no tensor"""
        shard = Shard(d, ONE)
        for _, entry in shard.entries[1:]:
            entry["data_offsets"] = [x + 64 for x in entry["data_offsets"]]
        shard.write(data=shard.data + bytes(64))

    def entry_hole_at_start(d):
        """the first tensor does not begin at 0"""
        shard = Shard(d, ONE)
        for _, entry in shard.entries:
            entry["data_offsets"] = [x + 2 for x in entry["data_offsets"]]
        shard.write(data=shard.data + bytes(2))

    def entry_overlap(d):
        """the second tensor begins 2 bytes before the first ends"""
        shard = Shard(d, ONE)
        first, second = shard.entry(0), shard.entry(1)
        size = second["data_offsets"][1] - second["data_offsets"][0]
        begin = first["data_offsets"][1] - 2
        second["data_offsets"] = [begin, begin + size]
        shard.write()

    def entry_inside_another(d):
        """the second tensor lies within the first"""
        shard = Shard(d, ONE)
        size = shard.entry(1)["data_offsets"]
        shard.entry(1)["data_offsets"] = [2, 2 + size[1] - size[0]]
        shard.write()

    def entry_empty_inside_another(d):
        """a tensor without elements in the middle of the first"""
        shard = Shard(d, ONE)
        shard.entries.append(["empty", {"dtype": "BF16", "shape": [0],
                                        "data_offsets": [2, 2]}])
        shard.write()

    def entry_offset_negative(d):
        """begins before the data"""
        change_entry(d, data_offsets=[-2, 62])

    def entry_offsets_swapped(d):
        """ends before it begins"""
        change_entry(d, data_offsets=[64, 0])

    def entry_offset_beyond_file(d):
        """ends far behind the file"""
        change_entry(d, data_offsets=[0, 1 << 62])

    def entry_offset_over_2_63(d):
        """2^64: no integer that fits"""
        change_entry(d, data_offsets=[0, 1 << 64])

    def entry_offset_fraction(d):
        """0.5"""
        change_entry(d, data_offsets=[0.5, 2])

    def entry_three_offsets(d):
        """three offsets"""
        change_entry(d, data_offsets=[0, 2, 4])

    def entry_size_mismatch(d):
        """one element more than the offsets give"""
        shard = Shard(d, ONE)
        name, entry = shard.entries[0]
        entry["shape"] = entry["shape"][:-1] + [entry["shape"][-1] + 1]
        shard.write()

    def entry_shape_overflow(d):
        """2^80 elements"""
        change_entry(d, shape=[1 << 40, 1 << 40])

    def entry_shape_overflow_to_0(d):
        """2^64 elements, 0 if cut to 64 bits"""
        change_entry(d, shape=[1 << 32, 1 << 32], data_offsets=[0, 0])

    def entry_shape_wraps_to_size(d):
        """(2^55 + 5) x 512 elements: cut to 64 bits, the right number"""
        change_entry(d, shape=[(1 << 55) + 5, 512])

    def entry_bytes_wrap_to_size(d):
        """2^62 + 1280 elements of 4 bytes: cut to 64 bits, the right number"""
        change_entry(d, shape=[(1 << 62) + 1280], dtype="F32")

    def entry_rank_64(d):
        """64 dimensions"""
        change_entry(d, shape=[1] * 64)

    def entry_rank_million(d):
        """1,000,000 dimensions"""
        change_entry(d, shape=[1] * 1_000_000)

    def entry_rank_0(d):
        """no dimensions, so one element, but more data"""
        change_entry(d, shape=[])

    def entry_dimension_0(d):
        """no elements, but data"""
        change_entry(d, shape=[0, (1 << 63) - 1])

    def entry_dtype_of_1_mb(d):
        """a dtype of 1 MB"""
        change_entry(d, dtype="BF16" * 250_000)

    def entry_dtype_escape(d):
        """a terminal's escape sequence as a dtype"""
        change_entry(d, dtype="\x1b]0;owned\x07")

    def entry_bytes_overflow(d):
        """2^62 elements of 8 bytes"""
        change_entry(d, shape=[1 << 62], dtype="F64", data_offsets=[0, 0])

    def entry_dimension_over_2_63(d):
        """a dimension that is no 64-bit integer"""
        change_entry(d, shape=[1 << 65])

    def entry_dimension_negative(d):
        """-1"""
        change_entry(d, shape=[-1])

    def entry_dimension_text(d):
        """a string"""
        change_entry(d, shape=["64"])

    def entry_rank_9(d):
        """nine dimensions"""
        change_entry(d, shape=[1] * 9)

    def entry_dtype_unknown(d):
        """F4"""
        change_entry(d, dtype="F4")

    def entry_dtype_number(d):
        """16"""
        change_entry(d, dtype=16)

    def entry_field_missing(d):
        """no shape"""
        shard = Shard(d, ONE)
        del shard.entry(0)["shape"]
        shard.write()

    def entry_field_added(d):
        """a field that nobody knows"""
        change_entry(d, stride=[1])

    def entry_field_twice(d):
        """dtype twice"""
        Shard(d, ONE).write('{"a":{"dtype":"BF16","dtype":"F16",'
                            '"shape":[1],"data_offsets":[0,2]}}')

    def entry_not_object(d):
        """a string"""
        shard = Shard(d, ONE)
        shard.entries[0][1] = "BF16"
        shard.write()

    def name_with_escape(d):
        """a terminal's escape sequence and a line break in a name"""
        add_tensor(d, "evil\x1b[31m\r\nfp8cast: all is well\x7f\u0085")

    def name_in_index_with_escape(d):
        """the same in weight_map"""
        edit_index(d, lambda m: m.update({"evil\x1b[2J\r\n": ONE}))

    def name_of_file_with_escape(d):
        """and in a file's name"""
        edit_index(d, lambda m: m.update({Q_PROJ: "\x1b[2J\n.safetensors"}))

    def name_with_direction_marks(d):
        """marks that turn text around"""
        add_tensor(d, "gpj.\u202egnp\u2066")

    # -- shards, index and folder

    def shard_missing(d):
        """the second is gone"""
        remove(d, TWO)

    def shard_stray(d):
        """one that the index does not name"""
        shutil.copy(os.path.join(d, ONE), os.path.join(d, "old.safetensors"))

    def shard_stray_without_index(d):
        """two files and no index"""
        remove(d, INDEX)
        os.rename(os.path.join(d, ONE), os.path.join(d, "model.safetensors"))

    def shards_without_index(d):
        """numbered shards whose index is gone"""
        remove(d, INDEX)

    def shard_fifo(d):
        """a fifo: opening it must not block"""
        remove(d, ONE)
        os.mkfifo(os.path.join(d, ONE))

    def shard_folder(d):
        """a folder"""
        remove(d, ONE)
        os.mkdir(os.path.join(d, ONE))

    def shard_device(d):
        """a link to /dev/zero, which has no end"""
        remove(d, ONE)
        os.symlink("/dev/zero", os.path.join(d, ONE))

    def shard_broken_link(d):
        """a link into the void, as in a hub's cache that was cleaned"""
        remove(d, ONE)
        os.symlink("../blobs/gone", os.path.join(d, ONE))

    def shard_link_loop(d):
        """a link to itself"""
        loop(d, ONE)

    def shard_socket(d):
        """a socket"""
        remove(d, ONE)
        here = os.getcwd()
        os.chdir(d)  # its path may only have 108 bytes
        socket.socket(socket.AF_UNIX).bind(ONE)
        os.chdir(here)

    def shard_config(d):
        """config.json for a shard"""
        edit_index(d, lambda m: m.update({Q_PROJ: "config.json"}))

    def shard_twice_the_same(d):
        """both shards hold the same tensors"""
        write_bytes(os.path.join(d, TWO), read_bytes(os.path.join(d, ONE)))

    def index_tensor_not_in_shard(d):
        """names one more tensor"""
        edit_index(d, lambda m: m.update({"lm_tail.weight": ONE}))

    def index_tensor_not_named(d):
        """one tensor less"""
        edit_index(d, lambda m: m.pop(Q_PROJ) and None)

    def index_tensor_elsewhere(d):
        """names the wrong shard for a tensor"""
        other = ONE if home_of(d, Q_PROJ) == TWO else TWO
        edit_index(d, lambda m: m.update({Q_PROJ: other}))

    def index_parent(d):
        """a shard outside of the folder"""
        os.link(os.path.join(d, ONE), os.path.join(d, "..", ONE))
        edit_index(d, lambda m: m.update(
            {k: "../" + ONE for k in m if m[k] == ONE}))

    def index_absolute(d):
        """an absolute path"""
        edit_index(d, lambda m: m.update({Q_PROJ: "/etc/passwd"}))

    def index_dots(d):
        """the folder itself"""
        edit_index(d, lambda m: m.update({Q_PROJ: ".."}))

    def index_number(d):
        """a number for a file"""
        edit_index(d, lambda m: m.update({Q_PROJ: 2}))

    def index_not_json(d):
        """cut short"""
        raw = read_bytes(os.path.join(d, INDEX))
        write_bytes(os.path.join(d, INDEX), raw[:30])

    def index_without_weight_map(d):
        """no weight_map"""
        write_bytes(os.path.join(d, INDEX), b'{"metadata": {}}\n')

    def index_duplicate_name(d):
        """a tensor twice in weight_map"""
        raw = read_bytes(os.path.join(d, INDEX)).decode()
        at = raw.index('"weight_map": {') + len('"weight_map": {')
        raw = f'{raw[:at]}"{Q_PROJ}": "{ONE}",{raw[at:]}'
        write_bytes(os.path.join(d, INDEX), raw.encode())

    def index_link_loop(d):
        """a link to itself"""
        loop(d, INDEX)

    def index_broken_link(d):
        """a link into the void, beside shards"""
        remove(d, INDEX)
        os.symlink("gone", os.path.join(d, INDEX))

    def index_folder(d):
        """a folder"""
        remove(d, INDEX)
        os.mkdir(os.path.join(d, INDEX))

    def index_fifo(d):
        """a fifo"""
        remove(d, INDEX)
        os.mkfifo(os.path.join(d, INDEX))

    def index_device(d):
        """a link to /dev/zero"""
        remove(d, INDEX)
        os.symlink("/dev/zero", os.path.join(d, INDEX))

    def index_over_limit(d):
        """100,000,001 bytes"""
        write_sparse(os.path.join(d, INDEX), 100_000_001)

    def index_of_spaces(d):
        """100,000,000 bytes of white space"""
        write_bytes(os.path.join(d, INDEX), b"\n" * 100_000_000)

    def index_million_deep(d):
        """1,000,000 brackets"""
        write_bytes(os.path.join(d, INDEX), b'{"a":' + b"[" * 1_000_000)

    def index_million_tensors(d):
        """1,000,001 tensors in weight_map"""
        write_bytes(os.path.join(d, INDEX), b'{"weight_map":{' + b",".join(
            b'"%d":"a"' % i for i in range(1_000_001)) + b"}}")

    def index_full(d):
        """as many and as long names as there may be, and one of them twice"""
        write_bytes(os.path.join(d, INDEX), b'{"weight_map":{' + b",".join(
            b'"%045d":"%d"' % (max(i, 8), i % 9_000)
            for i in range(999_999, -1, -1)) + b"}}")

    def index_hundred_thousand_shards(d):
        """more shards than any model has"""
        write_bytes(os.path.join(d, INDEX), b'{"weight_map":{' + b",".join(
            b'"%d":"%d"' % (i, 200_000 - i) for i in range(100_000)) + b"}}")

    def index_name_of_1_mb(d):
        """a tensor's name of 1 MB"""
        edit_index(d, lambda m: m.update({"n" * 1_000_000: ONE}))

    def index_file_of_1_mb(d):
        """a file's name of 1 MB"""
        edit_index(d, lambda m: m.update({Q_PROJ: "n" * 1_000_000}))

    def index_metadata_of_2_mb(d):
        """other metadata than numbers"""
        edit_json(d, INDEX, lambda index: index["metadata"].update(
            note="x" * 2_000_000))

    def index_thousand_keys(d):
        """many keys beside weight_map"""
        edit_json(d, INDEX, lambda index: index.update(
            {f"{i:0100}": i for i in range(1000)}))

    def weights_missing(d):
        """only config.json"""
        remove(d, ONE, TWO, INDEX)

    def weights_empty(d):
        """model.safetensors without tensors"""
        remove(d, ONE, TWO, INDEX)
        write_bytes(os.path.join(d, "model.safetensors"),
                    struct.pack("<Q", 8) + b"{}      ")

    def folder_empty(d):
        """nothing in it"""
        shutil.rmtree(d)
        os.mkdir(d)

    def folder_missing(d):
        """not there"""
        shutil.rmtree(d)

    def folder_file(d):
        """a file"""
        shutil.rmtree(d)
        write_bytes(d, b"hello\n")

    def folder_loop(d):
        """a link to the folder itself, in it"""
        os.symlink(".", os.path.join(d, "again"))

    def folder_of_links(d):
        """16 folders with ten links each to the next: 10^15 files"""
        for i in range(15):
            os.mkdir(os.path.join(d, f"f{i}"))
            for k in range(10):
                os.symlink(f"../f{i + 1}", os.path.join(d, f"f{i}", str(k)))
        os.mkdir(os.path.join(d, "f15"))

    def folder_side_file_nowhere(d):
        """a tokenizer that is a link into the void"""
        os.symlink("gone", os.path.join(d, "tokenizer.json"))

    # -- config.json

    def config_missing(d):
        """no config.json"""
        remove(d, "config.json")

    def config_fifo(d):
        """a fifo"""
        remove(d, "config.json")
        os.mkfifo(os.path.join(d, "config.json"))

    def config_link_loop(d):
        """a link to itself"""
        loop(d, "config.json")

    def config_folder(d):
        """a folder"""
        remove(d, "config.json")
        os.mkdir(os.path.join(d, "config.json"))

    def config_device(d):
        """a link to /dev/zero"""
        remove(d, "config.json")
        os.symlink("/dev/zero", os.path.join(d, "config.json"))

    def config_of_100_mb(d):
        """100 MB"""
        write_sparse(os.path.join(d, "config.json"), 100_000_000)

    def config_million_deep(d):
        """1,000,000 brackets"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")

    def config_million_lists(d):
        """as many empty lists as fit, and no model_type"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{"a":[' + b"[]," * 1_333_000 + b"0]}")

    def config_million_objects(d):
        """as many small objects as fit, and no model_type"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{"a":[' + b'{"":0},' * 571_000 + b"0]}")

    def config_many_keys(d):
        """as many keys as fit, and no model_type"""
        write_bytes(os.path.join(d, "config.json"), b"{" + b",".join(
            b'"%x":0' % i for i in range(380_000)) + b"}")

    def config_empty(d):
        """0 bytes"""
        write_bytes(os.path.join(d, "config.json"), b"")

    def config_not_json(d):
        """a comma too many"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{\n  "model_type": "qwen3_5_moe",\n}\n')

    def config_array(d):
        """an array"""
        write_bytes(os.path.join(d, "config.json"), b"[]\n")

    def config_duplicate_key(d):
        """model_type twice"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{"model_type": "a", "model_type": "qwen3_5_moe"}\n')

    def config_invalid_utf8(d):
        """Latin-1"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{"model_type": "caf\xe9"}\n')

    def config_text_behind(d):
        """two documents"""
        write_bytes(os.path.join(d, "config.json"),
                    b'{"model_type": "qwen3_5_moe"}\n{}\n')

    def config_without_model_type(d):
        """no model_type"""
        edit_json(d, "config.json", lambda c: c.pop("model_type") and None)

    def config_model_type_number(d):
        """35"""
        set_config(d, model_type=35)

    def config_model_type_unknown(d):
        """a family without rules"""
        set_config(d, model_type="llama\x1b[2J")

    def config_quantised(d):
        """a quantization_config"""
        set_config(d, quantization_config={"quant_method": "fp8"})

    def config_quantised_inside(d):
        """a quantization_config in text_config"""
        edit_json(d, "config.json", lambda c: c["text_config"].update(
            quantization_config={"quant_method": "awq"}))

    def config_compressed(d):
        """a compression_config"""
        set_config(d, compression_config={"format": "int-quantized"})

    # -- tensors that the rules do not fit

    def tensor_without_rule(d):
        """a new kind of tensor"""
        add_tensor(d, LAYER + "0.mlp.adapter.weight")

    def tensor_missing(d):
        """a norm that the rules demand has another name"""
        old, new = NORM, LAYER + "9.input_layernorm.weight"
        shard = Shard(d, home_of(d, old))
        for item in shard.entries:
            if item[0] == old:
                item[0] = new
        shard.write()
        edit_index(d, lambda m: m.update({new: m.pop(old)}))

    def tensor_of_three_dimensions(d):
        """q_proj with one dimension more"""
        reshape(d, Q_PROJ, [2, 32, 64])

    def tensor_of_integers(d):
        """q_proj of I16"""
        reshape(d, Q_PROJ, [64, 64], "I16")

    def tensor_without_elements(d):
        """a q_proj of no rows"""
        shard = Shard(d, home_of(d, Q_PROJ))
        entry = dict(shard.entries)[Q_PROJ]
        begin, end = entry["data_offsets"]
        entry["shape"], entry["data_offsets"] = [0, 64], [begin, begin]
        for _, other in shard.entries:
            if other["data_offsets"][0] >= end:
                other["data_offsets"] = [x - (end - begin)
                                         for x in other["data_offsets"]]
        shard.write(data=shard.data[:begin] + shard.data[end:])

    def experts_of_two_dimensions(d):
        """gate_up_proj without its expert axis"""
        reshape(d, GATE_UP, [192, 64])

    def experts_of_odd_rows(d):
        """gate_up_proj whose halves are not equal"""
        reshape(d, GATE_UP, [64, 3, 64])

    def experts_twice(d):
        """fused, and one of them once more by itself"""
        for part in ("gate_proj", "up_proj"):
            add_tensor(d, f"{LAYER}1.mlp.experts.0.{part}.weight", (48, 64))

    # -- weights

    def nan_in_weight(d):
        """NaN in row 40, column 3"""
        set_weight(d, Q_PROJ, 40 * 64 + 3, NAN)

    def inf_in_weight(d):
        """Inf in the last element"""
        set_weight(d, QKV, 128 * 64 - 1, INF)

    def minus_inf_in_weight(d):
        """-Inf in the first element"""
        set_weight(d, QKV, 0, MINUS_INF)

    def nan_in_expert(d):
        """in the up half of the second expert, its row 5, column 7"""
        set_weight(d, GATE_UP, (96 + 48 + 5) * 64 + 7, NAN)

    def nan_of_signalling_kind(d):
        """0x7f81, which a float operation would make quiet"""
        set_weight(d, Q_PROJ, 64, 0x7F81)


# What a whole header, entry field, index or config says instead.

EMPTY = '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'

HEADERS = {
    "header-of-spaces": "    ",
    "header-bom": "\ufeff" + EMPTY + "}",
    "header-utf-16": (EMPTY + "}").encode("utf-16-le"),
    "header-nul-first": "\0" + EMPTY + "}",
    "header-form-feed": "{\f}",
    "header-comma-behind": EMPTY + ",}",
    "header-comma-before": "{," + EMPTY[1:] + "}",
    "header-two-commas": EMPTY + ",," + EMPTY[1:] + "}",
    "header-no-comma": EMPTY + EMPTY[1:] + "}",
    "header-comment": "/* */" + EMPTY + "}",
    "header-second-document": EMPTY + "}" + EMPTY + "}",
    "header-bracket-behind": EMPTY + "}}",
    "header-string-open": '{"a',
    "header-no-colon": '{"a"}',
    "header-name-number": "{1:2}",
    "header-name-bare": "{a:2}",
    "header-lone-high-surrogate": '{"\\ud800":1}',
    "header-lone-low-surrogate": '{"\\udc00":1}',
    "header-surrogates-reversed": '{"\\udc00\\ud800":1}',
    "header-surrogate-in-utf8": b'{"\xed\xa0\x80":1}',
    "header-overlong-utf8": b'{"\xc0\xaf":1}',
    "header-beyond-unicode": b'{"\xf4\x90\x80\x80":1}',
    "header-utf8-cut": b'{"\xe2\x82',
    "header-bad-escape": '{"\\x41":1}',
    "header-control-character": '{"a\nb":1}',
    "header-nul-raw-in-name": '{"a\0b":1}',
    "header-null": "null",
    "header-number": "17",
    "header-tensor-null": '{"a":null}',
    "header-tensor-empty": '{"a":{}}',
    "header-metadata-null": EMPTY + ',"__metadata__":null}',
    "header-metadata-list": EMPTY + ',"__metadata__":["pt"]}',
    "header-metadata-tensor": EMPTY + ',"__metadata__":' + EMPTY[5:] + "}",
    "header-metadata-nested": EMPTY + ',"__metadata__":{"a":{"b":"c"}}}',
    "header-shape-twice": EMPTY[:-1] + ',"shape":[0]}}',
    "header-offsets-twice": EMPTY[:-1] + ',"data_offsets":[0,0]}}',
    "header-nul-for-a-brace": EMPTY.replace("[0]", "[0\0]"),
    "header-nul-behind-number": EMPTY.replace("[0]", "[0\0]") + "}",
}

FIELDS = {
    "entry-dimension-point": ("shape", "[40.0,64]"),
    "entry-dimension-exponent": ("shape", "[4e1,64]"),
    "entry-dimension-minus-0": ("shape", "[-0]"),
    "entry-dimension-octal": ("shape", "[040,64]"),
    "entry-dimension-hexadecimal": ("shape", "[0x28,64]"),
    "entry-dimension-plus": ("shape", "[+40,64]"),
    "entry-dimension-2-63": ("shape", "[9223372036854775808]"),
    "entry-dimension-1000-digits": ("shape", "[1" + "0" * 1000 + "]"),
    "entry-dimension-true": ("shape", "[true]"),
    "entry-dimension-null": ("shape", "[null]"),
    "entry-dimension-nan": ("shape", "[NaN]"),
    "entry-dimension-list": ("shape", "[[40,64]]"),
    "entry-dimension-comma": ("shape", "[40,64,]"),
    "entry-shape-object": ("shape", "{}"),
    "entry-shape-null": ("shape", "null"),
    "entry-shape-text": ("shape", '"[40,64]"'),
    "entry-offset-point": ("data_offsets", "[0.0,5120]"),
    "entry-offset-minus-0": ("data_offsets", "[-0,5120]"),
    "entry-offset-octal": ("data_offsets", "[00,5120]"),
    "entry-offset-text": ("data_offsets", '["0","5120"]'),
    "entry-offset-null": ("data_offsets", "[null,5120]"),
    "entry-offset-2-63-less-1": ("data_offsets", "[0,9223372036854775807]"),
    "entry-offsets-none": ("data_offsets", "[]"),
    "entry-offsets-one": ("data_offsets", "[5120]"),
    "entry-offsets-object": ("data_offsets", '{"begin":0,"end":5120}'),
    "entry-offsets-null": ("data_offsets", "null"),
    "entry-dtype-lower-case": ("dtype", '"bf16"'),
    "entry-dtype-with-space": ("dtype", '"BF16 "'),
    "entry-dtype-empty": ("dtype", '""'),
    "entry-dtype-null": ("dtype", "null"),
    "entry-dtype-of-4-bits": ("dtype", '"F4_E2M1"'),
    "entry-dtype-of-6-bits": ("dtype", '"F6_E3M2"'),
    "entry-dtype-complex": ("dtype", '"C64"'),
}

INDEXES = {
    "index-empty": "",
    "index-array": "[]",
    "index-bom": '\ufeff{"weight_map": {}}',
    "index-text-behind": '{"weight_map": {}} {}',
    "index-comma-behind": '{"weight_map": {},}',
    "index-weight-map-array": '{"weight_map": []}',
    "index-weight-map-null": '{"weight_map": null}',
    "index-weight-map-twice": '{"weight_map": {}, "weight_map": {}}',
    "index-metadata-twice": '{"metadata": {}, "metadata": {}}',
    "index-total-size-twice":
        '{"metadata": {"total_size": 1, "total_size": 1}}',
    "index-key-twice-inside": '{"x": {"y": [{"z": 1, "z": 2}]}}',
    "index-total-size-octal": '{"metadata": {"total_size": 010}}',
    "index-nan": '{"metadata": {"x": NaN}}',
    "index-invalid-utf8": b'{"caf\xe9": 1}',
    "index-lone-surrogate": '{"weight_map": {"\\ud800": "a"}}',
    "index-nul-in-name": '{"weight_map": {"a\\u0000b": "a"}}',
    "index-nul-in-file": '{"weight_map": {"a": "a\\u0000b"}}',
    "index-nul-raw": '{"metadata": {"total_size": 1\0}}',
    "index-file-empty": '{"weight_map": {"a": ""}}',
    "index-file-dot": '{"weight_map": {"a": "."}}',
    "index-file-list": '{"weight_map": {"a": ["a"]}}',
    "index-file-device": '{"weight_map": {"a": "/dev/zero"}}',
    "index-file-inside": '{"weight_map": {"a": "sub/a.safetensors"}}',
    "index-without-tensors": '{"weight_map": {}}',
}

CONFIGS = {
    "config-bom": '\ufeff{"model_type": "qwen3_5_moe"}',
    "config-comment": '{"model_type": "qwen3_5_moe" // mine\n}',
    "config-single-quotes": "{'model_type': 'qwen3_5_moe'}",
    "config-nan": '{"model_type": "qwen3_5_moe", "x": NaN}',
    "config-number-octal": '{"model_type": "qwen3_5_moe", "x": 010}',
    "config-number-too-large": '{"model_type": "qwen3_5_moe", "x": 1e999}',
    "config-integer-too-large":
        '{"model_type": "qwen3_5_moe", "x": 18446744073709551616}',
    "config-nul-in-text": '{"model_type": "qwen3_5_moe\\u0000"}',
    "config-nul-behind-number": '{"model_type": "qwen3_5_moe", "x": 1\0}',
    "config-lone-surrogate": '{"model_type": "\\udfff"}',
    "config-key-twice-inside":
        '{"model_type": "qwen3_5_moe", "text_config": {"a": 1, "a": 2}}',
    "config-cut": '{"model_type": "qwen3_5_moe"',
    "config-model-type-null": '{"model_type": null}',
    "config-model-type-of-1-mb": '{"model_type": "' + "x" * 1_000_000 + '"}',
}

QUANTIZE_ONLY = {"nan-in-weight", "inf-in-weight", "minus-inf-in-weight",
                 "nan-in-expert", "nan-of-signalling-kind"}


def cases():
    for name, function in vars(Cases).items():
        if callable(function) and not name.startswith("__"):
            yield name.replace("_", "-"), function
    for name, text in HEADERS.items():
        yield name, lambda d, t=text: Shard(d, ONE).write(t, data=b"")
    for name, (field, raw) in FIELDS.items():
        yield name, lambda d, f=field, r=raw: set_field(d, f, r)
    for name, text in INDEXES.items():
        yield name, lambda d, t=text: write_bytes(os.path.join(d, INDEX), t)
    for name, text in CONFIGS.items():
        yield name, lambda d, t=text: write_bytes(
            os.path.join(d, "config.json"), t)


def make_good(folder):
    """Two shards. Nothing random: the messages name bytes and tensors."""
    tensors = {}
    for name, shape in checkpoints.tensor_shapes(SHAPE).items():
        count = 1
        for dim in shape:
            count *= dim
        tensors[name] = ("BF16", shape, struct.pack("<H", 0x3C12) * count)
    names = list(tensors)
    half = len(names) // 2
    shards = {ONE: names[:half], TWO: names[half:]}
    for shard, order in shards.items():
        checkpoints.write_shard(os.path.join(folder, shard), tensors, order,
                                order, padded=True)
    weight_map = {name: shard for shard, order in shards.items()
                  for name in order}
    size = sum(len(data) for _, _, data in tensors.values())
    write_bytes(os.path.join(folder, INDEX), json.dumps(
        {"metadata": {"total_size": size}, "weight_map": weight_map},
        indent=2).encode())
    write_bytes(os.path.join(folder, "config.json"), json.dumps(
        checkpoints.config(SHAPE, "BF16", "fused"), indent=2).encode())


def make_all(out):
    good = os.path.join(out, "good", "DIR")
    os.makedirs(good)
    make_good(good)
    for name, function in cases():
        folder = os.path.join(out, name, "DIR")
        shutil.copytree(good, folder, symlinks=True, copy_function=os.link)
        function(folder)


def main():
    if sys.argv[1:] == ["--list"]:
        for name, _ in cases():
            print(name, "quantize" if name in QUANTIZE_ONLY
                  else "plan quantize")
    elif len(sys.argv) == 2:
        make_all(sys.argv[1])
    else:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
