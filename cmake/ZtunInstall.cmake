# SPDX-License-Identifier: Apache-2.0
# What `make install` puts beside the programs (which cmake/ZtunLayers.cmake installs to bin/).
# ztunctl looks for share/ztun/local in the directories above its own.

foreach(dir local demo)
    install(DIRECTORY ${CMAKE_SOURCE_DIR}/conf/${dir}/ DESTINATION share/ztun/${dir}
        USE_SOURCE_PERMISSIONS
        PATTERN __pycache__ EXCLUDE)
endforeach()

install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs/ DESTINATION share/doc/ztun
    FILES_MATCHING PATTERN *.md)
foreach(file README.md CHANGELOG.md SECURITY.md LICENSE)
    install(FILES ${CMAKE_SOURCE_DIR}/${file} DESTINATION share/doc/ztun OPTIONAL)
endforeach()
