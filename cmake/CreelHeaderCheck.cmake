# Each public header must compile alone. io/asio.hpp needs Asio and belongs to a target of its own.
file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/creel.hpp
    ${PROJECT_SOURCE_DIR}/fibers/*.hpp ${PROJECT_SOURCE_DIR}/sync/*.hpp
    ${PROJECT_SOURCE_DIR}/io/*.hpp)
list(REMOVE_ITEM headers io/asio.hpp)
set(sources)
foreach(header ${headers})
    string(REPLACE "/" "_" name ${header})
    set(source ${PROJECT_BINARY_DIR}/headers/${name}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include <creel/${header}>\n")
    list(APPEND sources ${source})
endforeach()
add_library(creel_headers OBJECT ${sources})
target_link_libraries(creel_headers PRIVATE creel::creel)
creel_compile_options(creel_headers)
