# Sets creel_boost_keeps_exceptions to 1 or 0: whether the Boost that was found keeps the C++
# exception state of each context. Leaves it undefined where no program can be run that tells
# (another machine's compiler, or a Boost that is built along with creel);
# fibers/detail/run/boost_exceptions.hpp then goes by the version.
unset(creel_boost_keeps_exceptions)

if(NOT CREEL_BOOST_KEEPS_EXCEPTIONS STREQUAL "")
    set(creel_boost_keeps_exceptions $<BOOL:${CREEL_BOOST_KEEPS_EXCEPTIONS}>)
    return()
endif()

get_target_property(imported Boost::fiber IMPORTED)
if(NOT imported OR (CMAKE_CROSSCOMPILING AND NOT CMAKE_CROSSCOMPILING_EMULATOR))
    return()
endif()

# The program runs once for each Boost and compiler.
string(JOIN " " subject ${Boost_DIR} ${Boost_VERSION_STRING} ${CREEL_BOOST} ${CMAKE_CXX_COMPILER}
    ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_CXX_FLAGS})
if(NOT subject STREQUAL "${creel_boost_tried}")
    unset(creel_boost_ran CACHE)
    try_run(creel_boost_ran creel_boost_built ${PROJECT_BINARY_DIR}/boost_keeps_exceptions
        ${PROJECT_SOURCE_DIR}/cmake/checks/boost_keeps_exceptions.cpp
        LINK_LIBRARIES Boost::fiber Boost::context Threads::Threads
        CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON
        COMPILE_OUTPUT_VARIABLE creel_boost_output)
    if(NOT creel_boost_built)
        message(STATUS "Boost's exceptions: by its version, because this failed:\n${creel_boost_output}")
    endif()
    set(creel_boost_tried "${subject}" CACHE INTERNAL "")
endif()

if(creel_boost_ran STREQUAL "10")
    set(creel_boost_keeps_exceptions 0)
elseif(creel_boost_ran STREQUAL "11")
    set(creel_boost_keeps_exceptions 1)
endif()
