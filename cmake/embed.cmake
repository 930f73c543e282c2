# Writes OUTPUT, a C file with the text of every file in INPUTS (a list) as
# the table f8_builtin_<TABLE>: name without folder and suffix, text.
# Run with: cmake -DTABLE=… -DOUTPUT=… "-DINPUTS=…" -P embed.cmake
set(code "/* Generated from data files by cmake/embed.cmake. */\n#include \"builtin.h\"\n\n")
string(APPEND code "const f8_builtin f8_builtin_${TABLE}[] = {\n")
foreach(path IN LISTS INPUTS)
    get_filename_component(name "${path}" NAME)
    string(REGEX REPLACE "\\.[a-z]+$" "" name "${name}")
    file(READ "${path}" hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n     " bytes "${bytes}")
    string(APPEND code "    {\"${name}\", (const char[]){\n     ${bytes}0}},\n")
endforeach()
string(APPEND code "    {0, 0},\n};\n")
file(WRITE "${OUTPUT}" "${code}")
