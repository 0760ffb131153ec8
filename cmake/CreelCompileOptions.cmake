# How creel's own code is compiled: warnings, sanitizers. None of it reaches a consumer.

# A sanitizer is the whole tree's, for one uninstrumented object is enough to blind it.
if(CREEL_SANITIZE STREQUAL "address")
    set(creel_sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(CREEL_SANITIZE STREQUAL "thread")
    set(creel_sanitize_flags -fsanitize=thread)
elseif(CREEL_SANITIZE)
    message(FATAL_ERROR "CREEL_SANITIZE must be address, thread or empty, not '${CREEL_SANITIZE}'")
endif()
if(CREEL_SANITIZE)
    add_compile_options(${creel_sanitize_flags} -fno-omit-frame-pointer)
    add_link_options(${creel_sanitize_flags})
endif()

# Options that silence GCC where a sanitizer makes it warn of sound code: of every fence under TSan,
# and of its own std::regex, through Catch2, as "maybe uninitialized" under UBSan.
set(creel_quiet_options)
if(CREEL_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(creel_quiet_options -Wno-tsan -Wno-maybe-uninitialized)
endif()

function(creel_compile_options target)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
        ${creel_quiet_options})
    if(CREEL_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    # Messages and spawn sites then say fibers/park.cpp, on every machine the same.
    target_compile_options(${target} PRIVATE
        -fmacro-prefix-map=${PROJECT_BINARY_DIR}/include/creel/=
        -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF CXX_STANDARD 20)
endfunction()
