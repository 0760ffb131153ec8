# Each public header must compile alone, and a second include of it must do no harm. One
# configuration of each compiler checks that, because a sanitizer makes no difference.
file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/creel.hpp
    ${PROJECT_SOURCE_DIR}/fibers/*.hpp ${PROJECT_SOURCE_DIR}/sync/*.hpp
    ${PROJECT_SOURCE_DIR}/io/*.hpp)

# Sets ${result} to a source that includes the header. The spelling has the brackets or quotes.
function(creel_header_source spelling result)
    string(MAKE_C_IDENTIFIER "${spelling}" name)
    set(source ${PROJECT_BINARY_DIR}/headers/${name}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include ${spelling}\n#include ${spelling}\n")
    set(${result} ${source} PARENT_SCOPE)
endfunction()

set(sources)
foreach(header ${headers})
    creel_header_source("<creel/${header}>" source)
    list(APPEND sources ${source})
endforeach()
add_library(creel_headers OBJECT ${sources})
target_link_libraries(creel_headers PRIVATE creel::creel)
creel_compile_options(creel_headers)
target_compile_options(creel_headers PRIVATE -O0 -g0) # they never run

# The test of this check: each planted header fails for its own reason.
function(creel_add_header_fault name report)
    creel_header_source("\"${name}.hpp\"" source)
    add_test(NAME "headers: one that is ${name} is found" COMMAND ${CMAKE_CXX_COMPILER} -std=c++20
        -fsyntax-only -I ${PROJECT_SOURCE_DIR}/tests/headers ${source})
    set_tests_properties("headers: one that is ${name} is found" PROPERTIES
        TIMEOUT ${creel_test_timeout} ENVIRONMENT "LC_ALL=C" PASS_REGULAR_EXPRESSION "${report}")
endfunction()
creel_add_header_fault(without_pragma_once "error: redefinition of")
creel_add_header_fault(not_self_contained "error: .*std")

add_test(NAME "headers: each begins with the check of the build"
    COMMAND ${PROJECT_SOURCE_DIR}/tests/headers/build_check.sh ${CMAKE_CXX_COMPILER}
    ${creel_include_dir} ${headers} -- $<TARGET_OBJECTS:creel_headers> COMMAND_EXPAND_LISTS)
set_tests_properties("headers: each begins with the check of the build" PROPERTIES
    TIMEOUT ${creel_test_timeout})
