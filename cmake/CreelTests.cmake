# The common settings of all tests of the tree: a time limit and the options of a sanitizer.

set(creel_catch_definitions CATCH_CONFIG_NO_POSIX_SIGNALS CATCH_CONFIG_FAST_COMPILE)
set(creel_test_timeout 60)
set(creel_test_environment "")
set(creel_test_launcher "")

if(CREEL_SANITIZE)
    set(creel_test_timeout 300)
    # Tests of guard pages and of exhausted memory need the signal and bad_alloc, as in other
    # builds.
    string(JOIN ":" options handle_segv=0 handle_sigbus=0 allocator_may_return_null=1)
    if(CREEL_SANITIZE STREQUAL "address")
        # Fake stacks would move the locals of a fiber away from the stack that creel announces.
        string(APPEND options
            ":detect_leaks=1:detect_stack_use_after_return=0:strict_string_checks=1")
        set(creel_test_environment ASAN_OPTIONS=${options} UBSAN_OPTIONS=print_stacktrace=1)
    else()
        string(APPEND options
            ":second_deadlock_stack=1:suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp")
        set(creel_test_environment TSAN_OPTIONS=${options})
    endif()
    # Newer kernels use 32 random bits for mmap. The shadow maps of GCC 12 and clang 16 do not fit
    # beside that ("unexpected memory mapping"), so the tests run without random bits. A container
    # may forbid the personality call; then the tests run with them.
    execute_process(COMMAND setarch -R true RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
    if(NOT failed)
        set(creel_test_launcher setarch -R)
    endif()
endif()

# creel_add_test(name command...) registers one test under these settings.
function(creel_add_test name)
    add_test(NAME ${name} COMMAND ${creel_test_launcher} ${ARGN})
    set_tests_properties(${name} PROPERTIES
        TIMEOUT ${creel_test_timeout} ENVIRONMENT "${creel_test_environment}")
endfunction()

# creel_discover_tests(target prefix) registers each Catch2 test case as a test of its own, so that
# a case that hangs or dies fails alone. The cases are listed when ctest starts. Catch2's own module
# lists them during the build, has no labels, and fails at a semicolon in a name.
function(creel_discover_tests target prefix)
    set(script ${CMAKE_CURRENT_BINARY_DIR}/${target}.cmake)
    file(GENERATE OUTPUT ${script} CONTENT "
set(executable [==[$<TARGET_FILE:${target}>]==])
set(prefix [==[${prefix}]==])
set(launcher [==[${creel_test_launcher}]==])
set(timeout ${creel_test_timeout})
set(environment [==[${creel_test_environment}]==])
include([==[${PROJECT_SOURCE_DIR}/cmake/CreelDiscover.cmake]==])
")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${script})
endfunction()
