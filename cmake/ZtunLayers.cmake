# SPDX-License-Identifier: Apache-2.0

# ztun_layer(<name> DIR <dir> [PROGRAM <program> [STATIC_CXX]] LINK <libraries>...)
#
# Library zt_<name> from the C, C++ and .proto files of one directory, main.c excluded. While there are
# none it is an INTERFACE library with the same links. With PROGRAM, <dir>/main.c becomes that
# executable as soon as the file exists. STATIC_CXX: it takes from the C++ library what BoringSSL
# needs, which is little, instead of loading the whole (0.9 MB of an idle process).
function(ztun_layer name)
    cmake_parse_arguments(arg "STATIC_CXX" "DIR;PROGRAM" "LINK" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS
        ${CMAKE_SOURCE_DIR}/${arg_DIR}/*.c ${CMAKE_SOURCE_DIR}/${arg_DIR}/*.cc)
    set(main ${CMAKE_SOURCE_DIR}/${arg_DIR}/main.c)
    list(FIND sources ${main} main_index)
    list(REMOVE_ITEM sources ${main})

    if(sources)
        add_library(zt_${name} STATIC ${sources})
        target_link_libraries(zt_${name} PUBLIC zt_flags ${arg_LINK})
        add_dependencies(zt_${name} version_header)
        file(GLOB protos RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS
            ${CMAKE_SOURCE_DIR}/${arg_DIR}/*.proto)
        foreach(proto ${protos})
            ztun_proto(zt_${name} ${proto})
        endforeach()
    else()
        add_library(zt_${name} INTERFACE)
        target_link_libraries(zt_${name} INTERFACE zt_flags ${arg_LINK})
    endif()

    # libFuzzer brings a main(), and the programs are not what is fuzzed
    if(arg_PROGRAM AND NOT main_index EQUAL -1 AND NOT ZTUN_FUZZ)
        add_executable(${arg_PROGRAM} ${main})
        target_link_libraries(${arg_PROGRAM} PRIVATE zt_${name})
        if(arg_STATIC_CXX AND NOT ZTUN_SANITIZE)
            set_target_properties(${arg_PROGRAM} PROPERTIES ZTUN_STATIC_CXX ON)
            target_link_options(${arg_PROGRAM} PRIVATE -static-libgcc)
        endif()
        add_dependencies(${arg_PROGRAM} version_header)
        install(TARGETS ${arg_PROGRAM} RUNTIME DESTINATION bin)
    endif()
endfunction()
