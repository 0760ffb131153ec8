# Finds liburing and makes the target liburing::liburing. It is installed beside creelConfig.cmake,
# so that a consumer needs no pkg-config.
find_path(liburing_INCLUDE_DIR liburing.h)
find_library(liburing_LIBRARY uring)
mark_as_advanced(liburing_INCLUDE_DIR liburing_LIBRARY)

# 2.3 has no version macro. Later versions have a header for it.
set(liburing_VERSION 2.3)
if(liburing_INCLUDE_DIR AND EXISTS ${liburing_INCLUDE_DIR}/liburing/io_uring_version.h)
    file(STRINGS ${liburing_INCLUDE_DIR}/liburing/io_uring_version.h numbers
        REGEX "define IO_URING_VERSION_M")
    if(numbers MATCHES "MAJOR ([0-9]+).*MINOR ([0-9]+)")
        set(liburing_VERSION ${CMAKE_MATCH_1}.${CMAKE_MATCH_2})
    endif()
elseif(liburing_INCLUDE_DIR)
    # io_uring_prep_send_zc came with 2.3 (liburing's CHANGELOG).
    file(STRINGS ${liburing_INCLUDE_DIR}/liburing.h found REGEX "io_uring_prep_send_zc")
    if(NOT found)
        set(liburing_VERSION 2.2)
    endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(liburing
    REQUIRED_VARS liburing_LIBRARY liburing_INCLUDE_DIR VERSION_VAR liburing_VERSION)

if(liburing_FOUND AND NOT TARGET liburing::liburing)
    add_library(liburing::liburing UNKNOWN IMPORTED)
    set_target_properties(liburing::liburing PROPERTIES
        IMPORTED_LOCATION ${liburing_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${liburing_INCLUDE_DIR})
endif()
