# Precompiled headers of creel's own tree. They halve the compile time of a source. Those of the
# library have only system headers, so that an edit of a creel header rebuilds only the sources that
# include it. The preset shared has none, and so checks that each source of the library includes
# what it uses.
set(creel_precompiles OFF)
if(CREEL_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(creel_precompiles GCC)
elseif(CREEL_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang"
        AND NOT CREEL_SANITIZE AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize"
        AND NOT CREEL_BOOST STREQUAL "shared" AND NOT CMAKE_POSITION_INDEPENDENT_CODE)
    # Clang refuses a precompiled header for a source with other sanitizers, as start_context.cpp
    # has, or with -fPIC.
    set(creel_precompiles clang)
endif()

# GCC bug 105651 (see CreelCompileOptions.cmake) gives this warning too if std::string is
# precompiled. Tests and examples, which make strings, are compiled without it; the library is
# compiled with it.
set(creel_quiet_strings "")
if(creel_precompiles STREQUAL "GCC" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    set(creel_quiet_strings -Wno-stringop-overflow)
endif()

# creel_precompile(target NAME... [TREE header]): precompiles cmake/precompiled/NAME.hpp as one
# header for the target. If TREE names a header of the tree, GCC precompiles that instead.
function(creel_precompile target)
    cmake_parse_arguments(PARSE_ARGV 1 ARG "" TREE "")
    set(names ${ARG_UNPARSED_ARGUMENTS})
    if(creel_precompiles STREQUAL "GCC")
        # Spelt <folder/name.hpp> and not by its path: ccache compares the text, and the path
        # differs from clone to clone.
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

# creel_reuse_precompiled(target owner): the target uses the precompiled header of the owner. Both
# must compile with the same options.
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

# creel_example_options(target): the options of a program that shows the library. With a sanitizer
# it is not optimized, like the tests, so it cannot use the header precompiled for the optimized
# library.
function(creel_example_options target)
    creel_compile_options(${target})
    if(CREEL_SANITIZE)
        target_compile_options(${target} PRIVATE -O0 -g1)
    else()
        creel_reuse_precompiled(${target} creel_sync)
    endif()
    target_compile_options(${target} PRIVATE ${creel_quiet_strings})
endfunction()
