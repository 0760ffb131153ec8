# Precompiled headers of creel's own tree. They halve the compile time of a source. The library's hold
# system headers only, so that an edit of a creel header rebuilds what includes it and no more. The
# preset shared has none, and so shows that each source of the library includes what it uses.
set(creel_precompiles OFF)
if(CREEL_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(creel_precompiles GCC)
elseif(CREEL_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang"
        AND NOT CREEL_SANITIZE AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize"
        AND NOT CREEL_BOOST STREQUAL "shared" AND NOT CMAKE_POSITION_INDEPENDENT_CODE)
    # It refuses one for a source with other sanitizers, as start_context.cpp is, or with -fPIC.
    set(creel_precompiles clang)
endif()

# GCC bug 105651 (see CreelCompileOptions.cmake) takes this form too where std::string is
# precompiled. For tests and examples, which build strings; the library is compiled with the
# warning.
set(creel_quiet_strings "")
if(creel_precompiles STREQUAL "GCC" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    set(creel_quiet_strings -Wno-stringop-overflow)
endif()

# creel_precompile(target NAME... [TREE header]): makes one header of cmake/precompiled/NAME.hpp for
# the target. GCC takes the header of the tree instead, if there is one.
function(creel_precompile target)
    cmake_parse_arguments(PARSE_ARGV 1 ARG "" TREE "")
    set(names ${ARG_UNPARSED_ARGUMENTS})
    if(creel_precompiles STREQUAL "GCC")
        # Spelt <folder/name.hpp>, not by its path, which differs from clone to clone, and with it
        # what ccache compares.
        list(TRANSFORM names REPLACE "(.+)" "<precompiled/\\1.hpp>" OUTPUT_VARIABLE headers)
        if(ARG_TREE)
            set(headers <${ARG_TREE}>)
        endif()
        target_include_directories(${target} PRIVATE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cmake>)
        target_precompile_headers(${target} PRIVATE ${headers})
    elseif(creel_precompiles STREQUAL "clang")
        list(TRANSFORM names REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/cmake/precompiled/\\1.hpp"
            OUTPUT_VARIABLE headers)
        set(script ${PROJECT_SOURCE_DIR}/cmake/precompile.sh)
        set(output ${PROJECT_BINARY_DIR}/precompiled/${target}.pch)
        set(definitions $<TARGET_PROPERTY:${target},COMPILE_DEFINITIONS>)
        string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
        separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}}")
        add_custom_command(OUTPUT ${output}
            COMMAND ${script} ${output} ${headers} -- ${CMAKE_CXX_COMPILER} -std=c++20 ${flags}
                $<FILTER:$<TARGET_PROPERTY:${target},COMPILE_OPTIONS>,EXCLUDE,include-pch>
                "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
            DEPENDS ${script} ${headers} DEPFILE ${output}.d VERBATIM COMMAND_EXPAND_LISTS)
        file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/precompiled)
        add_custom_target(${target}_precompiled DEPENDS ${output})
        creel_reuse_precompiled(${target} ${target})
    endif()
endfunction()

# creel_reuse_precompiled(target owner): takes the owner's; both compile with the same options.
function(creel_reuse_precompiled target owner)
    if(creel_precompiles STREQUAL "GCC")
        target_precompile_headers(${target} REUSE_FROM ${owner})
    elseif(creel_precompiles STREQUAL "clang")
        set(header ${PROJECT_BINARY_DIR}/precompiled/${owner}.pch)
        add_dependencies(${target} ${owner}_precompiled)
        target_compile_options(${target} PRIVATE "SHELL:-include-pch \"${header}\"")
        get_target_property(sources ${target} SOURCES)
        list(FILTER sources INCLUDE REGEX "\\.cpp$")
        set_property(SOURCE ${sources} APPEND PROPERTY OBJECT_DEPENDS ${header})
    endif()
endfunction()

# creel_example_options(target): of a program that shows the library. With a sanitizer it is not
# optimized, as the tests are not; the header precompiled for the optimized library does not fit it.
function(creel_example_options target)
    creel_compile_options(${target})
    if(CREEL_SANITIZE)
        target_compile_options(${target} PRIVATE -O0 -g1)
    else()
        creel_reuse_precompiled(${target} creel_sync)
    endif()
    target_compile_options(${target} PRIVATE ${creel_quiet_strings})
endfunction()
