# SPDX-License-Identifier: Apache-2.0
# Script mode: writes version.h to OUT, only when its text changes.

execute_process(
    COMMAND git -C ${SOURCE_DIR} describe --tags --always --dirty
    OUTPUT_VARIABLE describe
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET
    RESULT_VARIABLE rc)
if(NOT rc STREQUAL "0" OR describe STREQUAL "")
    set(describe "release")
    if(NOT "$ENV{ZTUN_GIT_VERSION}" STREQUAL "") # images are built without .git
        set(describe "$ENV{ZTUN_GIT_VERSION}")
    endif()
endif()

set(text "// Made by cmake/version.cmake.
#pragma once

#define ZTUN_VERSION \"${VERSION}\"
#define ZTUN_VERSION_GIT \"${describe}\"
#define ZTUN_VERSION_FULL \"${VERSION} (${describe})\"
")
if(EXISTS ${OUT})
    file(READ ${OUT} old)
endif()
if(NOT "${old}" STREQUAL "${text}")
    file(WRITE ${OUT} "${text}")
endif()
