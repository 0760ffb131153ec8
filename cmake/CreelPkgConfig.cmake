# Installs creel.pc. It names the files of Boost that were found, archives or shared libraries,
# because creel contains inline code of that Boost.
set(creel_pc_boost "")
foreach(library Boost::fiber Boost::context)
    string(APPEND creel_pc_boost " -L$<TARGET_FILE_DIR:${library}> -l:$<TARGET_FILE_NAME:${library}>")
endforeach()
string(STRIP "${creel_pc_boost}" creel_pc_boost)

set(creel_pc_flags "")
if(creel_has_stack_clash_protection)
    set(creel_pc_flags " -fstack-clash-protection")
endif()

# The prefix is relative to the folder of the file, so that an installation may be moved.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(creel_pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" up "${up}")
    set(creel_pc_prefix "\${pcfiledir}/${up}")
endif()
foreach(folder includedir libdir)
    string(TOUPPER CMAKE_INSTALL_${folder} chosen)
    if(IS_ABSOLUTE "${${chosen}}")
        set(creel_pc_${folder} "${${chosen}}")
    else()
        set(creel_pc_${folder} "\${prefix}/${${chosen}}")
    endif()
endforeach()

configure_file(cmake/creel.pc.in creel.pc.in @ONLY)
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/pkgconfig/$<CONFIG>/creel.pc
    INPUT ${PROJECT_BINARY_DIR}/creel.pc.in)
install(FILES ${PROJECT_BINARY_DIR}/pkgconfig/$<CONFIG>/creel.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
