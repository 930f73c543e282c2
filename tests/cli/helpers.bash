# What the bats files of this folder share; `load helpers` brings it in.
#
#   FP8CAST   the program under test (default: build/fp8cast)
#   PYTHON    a python3 with numpy (default: the first one found that has it)
#
# Works with bats 1.2 and later: no BATS_TEST_TMPDIR (1.4), no run flags (1.5).
# Note that bats takes no notice of a failing `! command` that is not the last
# one; say `fails command` instead.

# shellcheck disable=SC2034,SC2154,SC2164  # used and set by the files
root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
fp8cast=${FP8CAST:-$root/build/fp8cast}
case $fp8cast in
    /*) ;;
    *) fp8cast=$PWD/$fp8cast ;;
esac
reference=$root/tests/reference
golden=$root/tests/golden

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 /usr/bin/python3; do
        if "$candidate" -c 'import numpy' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "no python3 with numpy; set PYTHON" >&2
    return 1
}

# For setup_file: finds python once, and makes $shared, a folder for what the
# tests of the file read but do not change.
begin_file() {
    PYTHON=$(find_python)
    export PYTHON
    shared=$(mktemp -d "${TMPDIR:-/tmp}/fp8cast-bats.XXXXXX")
    export shared
    # The library's messages hold strerror texts.
    export LC_ALL=C.UTF-8
    # No .pyc files in the source tree.
    export PYTHONDONTWRITEBYTECODE=1
}

end_file() {
    if [ -n "$shared" ]; then rm -rf "$shared"; fi
}

# For setup and teardown: each test in a folder of its own.
begin_test() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/fp8cast-bats.XXXXXX")
    cd "$dir"
}

end_test() {
    cd /
    chmod -R u+rwx "$dir" 2>/dev/null || true
    rm -rf "$dir"
}

# fails COMMAND...: the command must not succeed.
fails() {
    if "$@"; then
        echo "succeeded, but should have failed: $*"
        return 1
    fi
}

# program STATUS ARGUMENT...: runs the program, stdout to ./out and stderr to
# ./err; its exit status must be STATUS. One that hangs is ended.
program() {
    local wanted=$1 found=0
    shift
    timeout 60 "$fp8cast" "$@" >out 2>err || found=$?
    if [ "$found" -ne "$wanted" ]; then
        echo "fp8cast $*"
        echo "exit status $found, expected $wanted"
        sed 's/^/stdout: /' out | head -40
        sed 's/^/stderr: /' err | head -40
        return 1
    fi
}

# says LINE: ./err is exactly this line.
says() {
    if ! printf '%s\n' "$1" | cmp -s - err; then
        echo "expected on stderr: $1"
        sed 's/^/found on stderr:    /' err
        return 1
    fi
}

# refuses LINE ARGUMENT...: exit status 1, this one line on stderr, nothing on
# stdout.
refuses() {
    local line=$1
    shift
    program 1 "$@"
    says "$line"
    if [ -s out ]; then
        sed 's/^/unexpected on stdout: /' out
        return 1
    fi
}

# holds FILE EXPRESSION...: each Python expression is true of the JSON
# document, called d.
holds() {
    "$PYTHON" - "$@" <<'PYTHON_END'
import json
import sys
with open(sys.argv[1], encoding="utf-8") as file:
    d = json.load(file)
for expression in sys.argv[2:]:
    if not eval(f"({expression})"):
        print(json.dumps(d, indent=1)[:4000])
        sys.exit(f"{sys.argv[1]}: not true: {expression}")
PYTHON_END
}

make_source() {
    "$PYTHON" "$reference/checkpoints.py" "$1" "$2"
}

# by_reference ARGUMENT... [-- ARGUMENT...]...: reference.py, called for each
# group of arguments, in one process: loading numpy takes longest.
by_reference() {
    "$PYTHON" - "$reference" "$@" <<'PYTHON_END'
import sys
sys.path.insert(0, sys.argv[1])
import reference
words = sys.argv[2:]
while words:
    end = words.index("--") if "--" in words else len(words)
    sys.argv = ["reference.py"] + words[:end]
    status = reference.main()
    if status:
        sys.exit(status)
    words = words[end + 1:]
PYTHON_END
}

# same A B: both folders have the same files with the same bytes, .fp8cast
# apart.
same() {
    by_reference compare "$1" "$2"
}

# Inode, change time and size of every file below the folder.
snapshot() {
    find "$1" -mindepth 1 -printf '%P %i %T@ %C@ %s\n' | sort
}

# Names below the folder, without .fp8cast.
names() {
    (cd "$1" && find . -mindepth 1 -name .fp8cast -prune -o -type f -print |
        sed 's/^..//' | LC_ALL=C sort)
}
