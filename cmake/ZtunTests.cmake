# SPDX-License-Identifier: Apache-2.0
# Tests, fuzz targets, the simulator and bench tools, found by their place in the tree. Building one
# of these targets builds only the libraries that it may use.

add_library(zt_test_flags INTERFACE)
target_link_libraries(zt_test_flags INTERFACE zt_flags)
target_compile_definitions(zt_test_flags INTERFACE
    ZTUN_SOURCE_DIR="${CMAKE_SOURCE_DIR}" ZTUN_BUILD_DIR="${CMAKE_BINARY_DIR}")

set(test_env
    "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp:second_deadlock_stack=1"
    "ZTUN_BIN_DIR=${CMAKE_BINARY_DIR}/bin")

function(ztun_test_properties name label timeout_s)
    set_tests_properties(${name} PROPERTIES
        LABELS ${label} TIMEOUT ${timeout_s} ENVIRONMENT "${test_env}"
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    if(label STREQUAL sim)
        set_tests_properties(${name} PROPERTIES COST 100) # the longest ones begin
    endif()
endfunction()

# tests/unit/<layer>/test_*.c: one program each, named by its stem. Other .c files beside them are
# helpers that all tests of the layer share.
add_custom_target(unit)
foreach(layer base proto tls rt obs net mesh l7 proc ztun waypoint ctl)
    file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${layer}/test_*.c)
    file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${layer}/*.c)
    if(ZTUN_FUZZ OR NOT tests)
        continue()
    endif()
    list(REMOVE_ITEM helpers ${tests})
    set(link zt_${layer} zt_test_flags PkgConfig::cmocka)
    if(helpers)
        add_library(unit_${layer}_helpers STATIC ${helpers})
        target_link_libraries(unit_${layer}_helpers PUBLIC ${link})
        set(link unit_${layer}_helpers)
    endif()
    foreach(source ${tests})
        get_filename_component(stem ${source} NAME_WE)
        set(target ${stem})
        if(TARGET ${target})
            set(target ${stem}_${layer})
        endif()
        add_executable(${target} ${source})
        target_link_libraries(${target} PRIVATE ${link})
        set_target_properties(${target} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        add_dependencies(${target} version_header)
        add_dependencies(unit ${target})
        add_test(NAME unit.${layer}.${stem} COMMAND ${target})
        ztun_test_properties(unit.${layer}.${stem} unit 120)
    endforeach()
endforeach()

# TLS over a duplex is tested against the same certificates and servers as TLS itself.
if(TARGET unit_net_helpers)
    target_sources(unit_net_helpers PRIVATE ${CMAKE_SOURCE_DIR}/tests/unit/tls/tls_fixture.c)
endif()
# And what talks to the Kubernetes API against the server that the HTTP client is.
if(TARGET unit_mesh_helpers)
    target_sources(unit_mesh_helpers PRIVATE
        ${CMAKE_SOURCE_DIR}/tests/unit/net/http_client_bed.c)
endif()

# tests/sim/*.c: one program, the net layer on a fake ring
add_custom_target(sim_tests)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/sim/*.c)
if(sources AND NOT ZTUN_FUZZ)
    # The tunnel under test is the unit tests' too.
    add_executable(sim ${sources} ${CMAKE_SOURCE_DIR}/tests/unit/net/mesh_bed.c)
    target_link_libraries(sim PRIVATE zt_mesh zt_test_flags PkgConfig::cmocka)
    set_target_properties(sim PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_dependencies(sim_tests sim)
    add_test(NAME sim COMMAND sim)
    ztun_test_properties(sim sim 300)
endif()

# tests/sim/waypoint/*.c: the same of the waypoint's HTTP side, against libnghttp2's own sessions
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/sim/waypoint/*.c)
if(sources AND NOT ZTUN_FUZZ)
    add_executable(sim_waypoint ${sources} ${CMAKE_SOURCE_DIR}/tests/sim/sim_seeds.c
        ${CMAKE_SOURCE_DIR}/tests/unit/waypoint/waypoint_bed.c
        ${CMAKE_SOURCE_DIR}/tests/unit/waypoint/h1_reader.c)
    target_link_libraries(sim_waypoint PRIVATE zt_waypoint zt_test_flags PkgConfig::nghttp2)
    set_target_properties(sim_waypoint PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_dependencies(sim_tests sim_waypoint)
    add_test(NAME sim_waypoint COMMAND sim_waypoint)
    ztun_test_properties(sim_waypoint sim 300)
endif()

# tests/fuzz/fuzz_*.c: libFuzzer programs with ZTUN_FUZZ, else linked with a main() that replays the
# corpus of the target and fixed mutations of it
add_custom_target(fuzz_tests)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
foreach(source ${sources})
    get_filename_component(stem ${source} NAME_WE)
    if(ZTUN_FUZZ)
        add_executable(${stem} ${source})
        target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(${stem} ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/main.c)
        add_test(NAME fuzz.${stem} COMMAND ${stem} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${stem})
        ztun_test_properties(fuzz.${stem} fuzz 120)
    endif()
    set(link zt_l7)
    if(stem MATCHES "^fuzz_waypoint_")
        set(link zt_waypoint)
        target_sources(${stem} PRIVATE ${CMAKE_SOURCE_DIR}/tests/unit/waypoint/waypoint_bed.c)
    elseif(stem MATCHES "^fuzz_(flow|zds)_")
        set(link zt_ztun)
    endif()
    target_link_libraries(${stem} PRIVATE ${link} zt_test_flags)
    set_target_properties(${stem} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    add_dependencies(fuzz_tests ${stem})
endforeach()

# bench/tools/*.c: one program each, on the allocator of the real programs
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/tools/*.c)
if(NOT ZTUN_FUZZ)
    foreach(source ${sources})
        get_filename_component(stem ${source} NAME_WE)
        add_executable(${stem} ${source})
        # The programs stand for the waypoint's own code; load tools get by with the libc.
        set(link zt_mesh)
        if(stem MATCHES "^waypoint_")
            set(link zt_waypoint)
        elseif(stem MATCHES "^(l7|micro)_")
            set(link zt_l7)
        endif()
        if(stem MATCHES "_request_probe$")
            target_sources(${stem} PRIVATE ${CMAKE_SOURCE_DIR}/tests/unit/waypoint/waypoint_bed.c)
        endif()
        target_link_libraries(${stem} PRIVATE ${link} zt_test_flags zt_jemalloc)
        set_target_properties(${stem} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/bench)
        if(NOT CMAKE_BUILD_TYPE STREQUAL Release OR ZTUN_SANITIZE)
            set_target_properties(${stem} PROPERTIES EXCLUDE_FROM_ALL ON)
        endif()
    endforeach()
endif()
