#!/usr/bin/env python3
"""Checkpoints that are broken in one way each.

    make_bad.py OUT          makes OUT/NAME/DIR for every case below
    make_bad.py --list       prints a line for each: NAME COMMANDS

bad.bats runs the program in OUT/NAME on the folder DIR, and compares its one
line with tests/golden/bad/NAME.txt. Both `plan` and `quantize` must say it,
but for cases in QUANTIZE_ONLY, which only weights show.

A case is a function below CASES; its name, with - for _, is the case's, and
its docstring says what is wrong. It gets the folder of a good checkpoint of
two shards and breaks it.
"""

import json
import os
import shutil
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

    # -- config.json

    def config_missing(d):
        """no config.json"""
        remove(d, "config.json")

    def config_fifo(d):
        """a fifo"""
        remove(d, "config.json")
        os.mkfifo(os.path.join(d, "config.json"))

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
        add_tensor(d, LAYER + "1.mlp.experts.0.up_proj.weight", (48, 64))

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


QUANTIZE_ONLY = {"nan-in-weight", "inf-in-weight", "minus-inf-in-weight",
                 "nan-in-expert", "nan-of-signalling-kind"}


def cases():
    for name, function in vars(Cases).items():
        if callable(function) and not name.startswith("__"):
            yield name.replace("_", "-"), function


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
