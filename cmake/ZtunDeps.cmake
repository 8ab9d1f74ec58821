# SPDX-License-Identifier: Apache-2.0
# Libraries of others: each from the distribution by pkg-config, except BoringSSL.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

pkg_check_modules(urcu REQUIRED IMPORTED_TARGET liburcu-qsbr)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(nghttp2 REQUIRED IMPORTED_TARGET libnghttp2)
pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing>=2.3)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(cares REQUIRED IMPORTED_TARGET libcares)
pkg_check_modules(yaml REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET re2)
pkg_check_modules(protobuf_c REQUIRED IMPORTED_TARGET libprotobuf-c)
pkg_check_modules(nftables REQUIRED IMPORTED_TARGET libnftables)
pkg_check_modules(mnl REQUIRED IMPORTED_TARGET libmnl)
pkg_check_modules(jemalloc REQUIRED IMPORTED_TARGET jemalloc)
pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)

# The programs run on jemalloc; a sanitizer brings its own allocator. ZTUN_JEMALLOC tells the code
# of the program layers whether mallctl() is there.
add_library(zt_jemalloc INTERFACE)
if(NOT ZTUN_SANITIZE AND NOT ZTUN_FUZZ)
    target_compile_definitions(zt_jemalloc INTERFACE ZTUN_JEMALLOC=1)
    # The archive where there is one: calls without a detour, and the shared object would load the
    # whole C++ library into programs that have no C++.
    find_library(ZTUN_JEMALLOC_ARCHIVE libjemalloc_pic.a HINTS ${jemalloc_LIBRARY_DIRS})
    if(ZTUN_JEMALLOC_ARCHIVE)
        target_link_libraries(zt_jemalloc INTERFACE ${ZTUN_JEMALLOC_ARCHIVE} m ${CMAKE_DL_LIBS})
    else()
        target_link_libraries(zt_jemalloc INTERFACE
            -Wl,--push-state,--no-as-needed PkgConfig::jemalloc -Wl,--pop-state)
    endif()
endif()

# BoringSSL: BORINGSSL_ROOT (variable or environment), or what scripts/boringssl.sh keeps in its
# cache. It is built here when it is missing, so that a bare `cmake --preset` works too.
set(BORINGSSL_ROOT "" CACHE PATH "Prefix of a BoringSSL build; empty: scripts/boringssl.sh makes one")
set(boringssl_root_env "$ENV{BORINGSSL_ROOT}")
if(BORINGSSL_ROOT)
    set(boringssl_root_env ${BORINGSSL_ROOT})
endif()
execute_process(
    COMMAND ${CMAKE_COMMAND} -E env BORINGSSL_ROOT=${boringssl_root_env}
        ${CMAKE_SOURCE_DIR}/scripts/boringssl.sh
    OUTPUT_VARIABLE boringssl_prefix
    OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
set(ZTUN_BORINGSSL_PREFIX ${boringssl_prefix} CACHE INTERNAL "what scripts/boringssl.sh said")

add_library(BoringSSL::crypto STATIC IMPORTED)
set_target_properties(BoringSSL::crypto PROPERTIES
    IMPORTED_LOCATION ${boringssl_prefix}/lib/libcrypto.a
    INTERFACE_INCLUDE_DIRECTORIES ${boringssl_prefix}/include
    INTERFACE_LINK_LIBRARIES
        "Threads::Threads;$<IF:$<BOOL:$<TARGET_PROPERTY:ZTUN_STATIC_CXX>>,-l:libstdc++.a,stdc++>")
add_library(BoringSSL::ssl STATIC IMPORTED)
set_target_properties(BoringSSL::ssl PROPERTIES
    IMPORTED_LOCATION ${boringssl_prefix}/lib/libssl.a
    INTERFACE_INCLUDE_DIRECTORIES ${boringssl_prefix}/include
    INTERFACE_LINK_LIBRARIES BoringSSL::crypto)
