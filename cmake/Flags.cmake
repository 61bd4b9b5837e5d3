# Warnings, hardening and sanitizers, as an interface library of its own so that
# what we link against is not compiled or included under our warnings.
add_library(pollux_flags INTERFACE)
target_compile_options(pollux_flags INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wswitch-enum -Wmissing-prototypes
    -Wstrict-prototypes -Wformat=2 -Wvla -Wundef -Wpointer-arith -Wwrite-strings
    -Werror -fno-common -fno-omit-frame-pointer)

if(POLLUX_SANITIZE)
    target_compile_options(pollux_flags INTERFACE
        -fsanitize=${POLLUX_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(pollux_flags INTERFACE -fsanitize=${POLLUX_SANITIZE})
endif()

# Without this libFuzzer sees the branches of its target only, not of ours.
if(POLLUX_FUZZ)
    target_compile_options(pollux_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(pollux_flags INTERFACE
        -fstack-protector-strong -fstack-clash-protection -fcf-protection
        -D_FORTIFY_SOURCE=2 -fPIE)
    target_link_options(pollux_flags INTERFACE
        -Wl,-z,relro,-z,now -pie)
    # Costs each of two dozen programs a compilation of everything at its link.
    option(POLLUX_LTO "optimise across files at link time" OFF)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ${POLLUX_LTO})
endif()
