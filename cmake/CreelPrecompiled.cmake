# Precompiled headers of creel's own tree: system headers only, so that an edit of a creel header
# rebuilds what includes it and no more. They halve the compile time of a library source under GCC,
# and gain clang nothing: its build shows that each source includes what it uses.
if(CREEL_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(creel_precompiles ON)
else()
    set(creel_precompiles OFF)
endif()

# GCC bug 105651 (see CreelCompileOptions.cmake) takes this form too where std::string is precompiled.
# For what builds strings, which are tests and examples; the library is compiled with the warning.
set(creel_quiet_strings "")
if(creel_precompiles AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    set(creel_quiet_strings -Wno-stringop-overflow)
endif()

# creel_precompile(target header): makes the header, spelt <folder/name.hpp>. Not by its path, which
# differs from clone to clone, and with it what ccache compares.
function(creel_precompile target header)
    if(creel_precompiles)
        target_include_directories(${target} PRIVATE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cmake>)
        target_precompile_headers(${target} PRIVATE ${header})
    endif()
endfunction()

# creel_reuse_precompiled(target owner): takes the owner's; both compile with the same options.
function(creel_reuse_precompiled target owner)
    if(creel_precompiles)
        target_precompile_headers(${target} REUSE_FROM ${owner})
    endif()
endfunction()
