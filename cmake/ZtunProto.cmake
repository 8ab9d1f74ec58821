# SPDX-License-Identifier: Apache-2.0

# ztun_proto(<target> <file.proto>)
#
# Compiles a Protocol Buffers file (path from the root) with protoc-c into a library target. What
# it declares is included as "<path without .proto>.pb-c.h". ztun_layer() calls it for each .proto of
# its directory.
#
# The files are ours and have in them what is used of a message: unknown fields are skipped. A
# package has one file, and its name is the prefix of the C names: it is short.
find_program(PROTOC_C protoc-c REQUIRED)
add_custom_target(zt_generated) # every header that is made by the build, for tools that read sources

function(ztun_proto target file)
    string(REGEX REPLACE "\\.proto$" "" stem ${file})
    set(out ${CMAKE_BINARY_DIR}/generated)
    add_custom_command(
        OUTPUT ${out}/${stem}.pb-c.c ${out}/${stem}.pb-c.h
        COMMAND ${PROTOC_C} --c_out=${out} --proto_path=${CMAKE_SOURCE_DIR} ${file}
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
        DEPENDS ${CMAKE_SOURCE_DIR}/${file}
        COMMENT "Compiling ${file}"
        VERBATIM)
    # The text is protoc-c's: our warnings are not for it.
    set_source_files_properties(${out}/${stem}.pb-c.c PROPERTIES COMPILE_OPTIONS -w)
    target_sources(${target} PRIVATE ${out}/${stem}.pb-c.c)
    string(MAKE_C_IDENTIFIER ${stem} id)
    add_custom_target(zt_generated_${id} DEPENDS ${out}/${stem}.pb-c.h)
    add_dependencies(zt_generated zt_generated_${id})
    add_dependencies(${target} zt_generated_${id})
endfunction()
