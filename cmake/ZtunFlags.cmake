# SPDX-License-Identifier: Apache-2.0
# Language, warnings, hardening and sanitizers, for every target of ours.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Programs are PIE. Everything of ours ends up in a program, so libraries are compiled with -fPIE
# too and not with CMake's -fPIC, under which gcc must not inline a function that is not static.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C CXX)

# The build type decides about optimisation only. NDEBUG is never set: our CHECK() is always on.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-Og -g3")
set(CMAKE_CXX_FLAGS_DEBUG "-Og -g3")

add_library(zt_flags INTERFACE)
target_include_directories(zt_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(zt_flags INTERFACE _GNU_SOURCE)

target_compile_options(zt_flags INTERFACE
    -Wall -Wextra
    -Wundef -Wpointer-arith -Wformat=2 -Wshadow -Wwrite-strings -Wvla
    -Wno-unused-parameter # callbacks of one shape leave parameters unused
    $<$<BOOL:${ZTUN_WERROR}>:-Werror>
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition>
    -fPIE -ffunction-sections -fdata-sections
    -fstack-protector-strong)
target_link_options(zt_flags INTERFACE
    -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed -Wl,--gc-sections)

if(ZTUN_FUZZ AND NOT CMAKE_C_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "ZTUN_FUZZ needs clang")
endif()

if(ZTUN_SANITIZE STREQUAL "asan")
    set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=all)
    if(CMAKE_C_COMPILER_ID MATCHES Clang)
        # Passing a struct pointer to a callback that takes void * is not our bug.
        list(APPEND sanitize -fno-sanitize=function)
    endif()
elseif(ZTUN_SANITIZE STREQUAL "tsan")
    set(sanitize -fsanitize=thread)
elseif(ZTUN_SANITIZE)
    message(FATAL_ERROR "ZTUN_SANITIZE is empty, asan or tsan, not '${ZTUN_SANITIZE}'")
endif()

if(sanitize)
    target_compile_options(zt_flags INTERFACE ${sanitize} -fno-omit-frame-pointer)
    target_link_options(zt_flags INTERFACE ${sanitize})
    target_compile_definitions(zt_flags INTERFACE ZTUN_SANITIZED=1)
    if(CMAKE_C_COMPILER_ID STREQUAL GNU)
        # The instrumentation confuses gcc's flow analysis; the plain build keeps these warnings.
        target_compile_options(zt_flags INTERFACE
            -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-stringop-overread
            -Wno-array-bounds -Wno-restrict -Wno-format-truncation)
        if(ZTUN_SANITIZE STREQUAL "tsan")
            target_compile_options(zt_flags INTERFACE -Wno-tsan)
        endif()
    endif()
elseif(CMAKE_BUILD_TYPE STREQUAL Release)
    target_compile_options(zt_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
if(ZTUN_FUZZ)
    target_compile_options(zt_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(ZTUN_LTO)
    include(CheckIPOSupported)
    check_ipo_supported(LANGUAGES C CXX)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()
