# What makes a mistake in the program, or in a library under it, hard to use
# against its owner. A sanitized build goes without: each would hide from the
# other what it looks for. scripts/check-hardening holds a built program
# against this list.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)
include(CheckPIESupported)

# Executables at random addresses; CMAKE_POSITION_INDEPENDENT_CODE asks for it.
check_pie_supported(LANGUAGES C)

# Jumps land on marked places only. The other CPU's option may pass the test
# below and be complained of in the build.
set(F8_BRANCHES -fcf-protection)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(F8_BRANCHES -mbranch-protection=standard)
endif()
foreach(flag -fstack-protector-strong -fstack-clash-protection ${F8_BRANCHES})
    string(MAKE_C_IDENTIFIER "F8_HAS${flag}" known)
    check_c_compiler_flag(${flag} ${known})
    if(${known})
        add_compile_options(${flag})
    endif()
endforeach()

# Level 3 checks sizes that are known at run time only; it needs gcc 12 or
# clang 9, and glibc 2.34. A distribution may have set a level of its own.
# Without optimisation glibc warns that there is none.
set(CMAKE_REQUIRED_FLAGS "-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3")
check_c_source_compiles("#include <stdio.h>
#if !defined __USE_FORTIFY_LEVEL || __USE_FORTIFY_LEVEL < 3
#error below 3
#endif
int main(void) { return 0; }" F8_HAS_FORTIFY_3)
unset(CMAKE_REQUIRED_FLAGS)
set(F8_FORTIFY 2)
if(F8_HAS_FORTIFY_3)
    set(F8_FORTIFY 3)
endif()
foreach(config Release RelWithDebInfo MinSizeRel)
    add_compile_options(
        "$<$<CONFIG:${config}>:-U_FORTIFY_SOURCE>"
        "$<$<CONFIG:${config}>:-D_FORTIFY_SOURCE=${F8_FORTIFY}>")
endforeach()

# Addresses of library functions are looked up once, at the start, and are
# read-only then; no stack holds code.
foreach(flag -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
    string(MAKE_C_IDENTIFIER "F8_HAS${flag}" known)
    check_linker_flag(C ${flag} ${known})
    if(${known})
        add_link_options(${flag})
    endif()
endforeach()
