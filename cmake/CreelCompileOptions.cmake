# The options of creel's own code: warnings, sanitizers. None of them reaches a consumer. The only
# option that does is in CMakeLists.txt.

# A sanitizer instruments the whole tree, because one object without it is enough to hide faults.
if(CREEL_SANITIZE STREQUAL "address")
    # The vptr check tests each address through a pipe. It reports a fault when no descriptor is
    # free, and some tests use up all of them.
    set(creel_sanitize_flags
        -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined)
elseif(CREEL_SANITIZE STREQUAL "thread")
    set(creel_sanitize_flags -fsanitize=thread)
elseif(CREEL_SANITIZE)
    message(FATAL_ERROR "CREEL_SANITIZE must be address, thread or empty, not '${CREEL_SANITIZE}'")
endif()
if(CREEL_SANITIZE)
    add_compile_options(${creel_sanitize_flags} -fno-omit-frame-pointer)
    add_link_options(${creel_sanitize_flags})
endif()

# These options silence warnings of GCC about correct code: about each fence under TSan; about its
# own std::regex, through Catch2, as "maybe uninitialized" under UBSan; about std::string's insert
# and operator+ as overlapping copies (GCC bug 105651, in 12 only).
set(creel_quiet_options)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    if(CREEL_SANITIZE)
        list(APPEND creel_quiet_options -Wno-tsan -Wno-maybe-uninitialized)
    endif()
    if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        list(APPEND creel_quiet_options -Wno-restrict)
    endif()
endif()

function(creel_compile_options target)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
        ${creel_quiet_options})
    if(CREEL_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    # With these options messages and spawn sites say fibers/nursery.cpp on each machine. ccache
    # makes paths relative to the folder in which the compiler is started.
    file(RELATIVE_PATH source ${CMAKE_BINARY_DIR} ${PROJECT_SOURCE_DIR})
    file(RELATIVE_PATH binary ${CMAKE_BINARY_DIR} ${PROJECT_BINARY_DIR})
    foreach(prefix ${PROJECT_BINARY_DIR}/include/creel ${PROJECT_SOURCE_DIR}
            ./${binary}/include/creel ${source})
        string(REGEX REPLACE "^\\.//?|/$" "" prefix ${prefix})
        target_compile_options(${target} PRIVATE -fmacro-prefix-map=${prefix}/=)
    endforeach()
    if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache")
        # An object in the cache may be compiled in another clone, and must not contain its path.
        target_compile_options(${target} PRIVATE -fdebug-prefix-map=${PROJECT_SOURCE_DIR}/=)
    endif()
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF CXX_STANDARD 20)
endfunction()
