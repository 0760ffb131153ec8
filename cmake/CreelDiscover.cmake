# ctest reads this file. It adds one test per Catch2 case of ${executable}: see
# creel_discover_tests. Cases with the tag [stress] get the label stress. Hidden cases, with the tag
# [.], are left out. Cases that take seconds, with the tag [stress] or [slow], start first, so that
# none of them runs alone at the end. Each case takes ${resources} of ctest, if there are any: see
# its property RESOURCE_GROUPS.

# Sets ${result} to the names of the cases that match the spec, one per line.
function(list_cases spec result)
    execute_process(COMMAND ${launcher} ${executable} ${spec} --list-test-names-only
        OUTPUT_VARIABLE output RESULT_VARIABLE status TIMEOUT 60)
    # Catch2 exits with the number of cases. A crash or a time-out gives a text.
    if(NOT status MATCHES "^[0-9]+$")
        message(FATAL_ERROR "${executable} could not list its tests: ${status}\n${output}")
    endif()
    set(${result} "${output}" PARENT_SCOPE)
endfunction()

function(add_cases spec labels cost)
    list_cases(${spec} rest)
    # Parsed by hand, because a CMake list would split a name at ';' and lose '['.
    while(rest MATCHES "^([^\n]*)\n(.*)$")
        set(name "${CMAKE_MATCH_1}")
        set(rest "${CMAKE_MATCH_2}")
        if(name STREQUAL "")
            continue()
        endif()
        string(REGEX REPLACE "([],[\\\\])" "\\\\\\1" argument "${name}")
        # With --warn NoTests a run fails if no case has the name.
        add_test("${prefix}: ${name}" ${launcher} ${executable} "${argument}" --warn NoTests)
        set_tests_properties("${prefix}: ${name}" PROPERTIES
            TIMEOUT ${timeout} ENVIRONMENT "${environment}" LABELS "${labels}" COST ${cost}
            RESOURCE_GROUPS "${resources}")
    endwhile()
endfunction()

if(EXISTS ${executable})
    add_cases("~[.]~[stress]~[slow]" "${prefix}" 0)
    add_cases("[slow]~[.]~[stress]" "${prefix}" 20)
    add_cases("[stress]~[.]" "${prefix};stress" 10)
else()
    add_test("${prefix}: not built" ${executable})
endif()
