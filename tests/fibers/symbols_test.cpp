// The names of code.
#include "support/open_descriptors.hpp"

#include "support/check.hpp"
#include "support/named_frames.hpp"

#include <creel/fibers/detail/unwind/symbols.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace creel::test;
using creel::detail::code_address;
using creel::detail::code_names;
using creel::detail::code_owner;
using creel::detail::code_place;

namespace {

code_address exactly(void* function) {
    return {reinterpret_cast<std::uintptr_t>(function), false};
}

constexpr unsigned line_of_function = __LINE__ + 1;
[[gnu::noinline]] int function_with_a_name(int x) {
    return x + 1;
}

code_owner owner(const char* function, const char* file = "") {
    code_place place;
    place.function = function;
    place.file = file;
    return creel::detail::owner_of(place);
}

} // namespace

TEST_CASE("a function of the program has its name, file and line") {
    code_names names;
    const auto places = names.of(exactly(reinterpret_cast<void*>(&function_with_a_name)));
    CHECK(function_with_a_name(1) == 2);
    REQUIRE(places.size() == 1);
    CHECK(places[0].offset != 0);
    CHECK(!places[0].module.empty());
    CHECK(!places[0].is_inlined);
    if (names.reads_debug_information()) {
        CHECK(places[0].function.find("function_with_a_name") != std::string::npos);
        CHECK(places[0].function.find("_Z") == std::string::npos);
        CHECK(places[0].file.ends_with("tests/fibers/symbols_test.cpp"));
        CHECK(places[0].line >= line_of_function);
        CHECK(places[0].line <= line_of_function + 1); // its first instruction may be its body's
    }
}

TEST_CASE("a function of a library without debug information has its name and its library") {
    code_names names;
    const auto& places = names.of(exactly(reinterpret_cast<void*>(&::getppid)));
    CHECK(places.back().function.find("getppid") != std::string::npos);
    CHECK(places.back().offset != 0);
}

TEST_CASE("an address that is no code has no name") {
    code_names names;
    const auto& places = names.of({16, true});
    REQUIRE(places.size() == 1);
    CHECK(places[0].function.empty());
    CHECK(places[0].module.empty());
    CHECK(places[0].offset == 15);
}

TEST_CASE("names that are closed hold no file, know what they have found, and find more") {
    const std::size_t before = open_descriptor_count();
    code_names names;
    const auto function = exactly(reinterpret_cast<void*>(&function_with_a_name));
    const auto found = names.of(function);
    names.close();
    CHECK(open_descriptor_count() == before);
    CHECK(names.of(function).back().file == found.back().file);
    CHECK_THAT(names.of(exactly(reinterpret_cast<void*>(&::getppid))).back().function,
               Catch::Contains("getppid"));
}

TEST_CASE("a library that is loaded later is found") {
    code_names names;
    const auto before = names.of(exactly(reinterpret_cast<void*>(&::getppid)));
    void* const library = ::dlopen("libnss_compat.so.2", RTLD_LAZY | RTLD_LOCAL);
    REQUIRE(library != nullptr); // a part of glibc
    void* const function = ::dlsym(library, "_nss_compat_getpwnam_r");
    REQUIRE(function != nullptr);
    const auto after = names.of(exactly(function));
    CHECK(after.back().function == "_nss_compat_getpwnam_r");
    CHECK(after.back().module.find("libnss_compat") != std::string::npos);
    CHECK(names.of(exactly(reinterpret_cast<void*>(&::getppid))).size() == before.size());
    ::dlclose(library);
}

TEST_CASE("no server is asked for debug information") {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    REQUIRE(listener >= 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(listener, generic, bytes) == 0);
    REQUIRE(::listen(listener, 8) == 0);
    REQUIRE(::getsockname(listener, generic, &bytes) == 0);
    const std::string url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    ::setenv("DEBUGINFOD_URLS", url.c_str(), 1);
    ::setenv("DEBUGINFOD_TIMEOUT", "1", 1);
    code_names names;
    // The debug information of the C library is more often installed than that of this one.
    const auto& places = names.of(exactly(::dlsym(RTLD_DEFAULT, "_ZSt9terminatev")));
    CHECK(places.back().function.find("terminate") != std::string::npos);
    const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    CHECK(connection == -1);
    ::close(listener);
}

TEST_CASE("long template arguments are left out of a name, and operators are no brackets") {
    using creel::detail::short_name;
    CHECK(short_name("f(int)") == "f(int)");
    CHECK(short_name("std::vector<int>::size() const") == "std::vector<int>::size() const");
    CHECK(short_name("serve<main::{lambda()#1}::operator()() const::{lambda(int)#2}>(int)") ==
          "serve<...>(int)");
    CHECK(short_name("a::operator<(b, c)") == "a::operator<(b, c)");
    CHECK(short_name("a::operator<<(b, c)") == "a::operator<<(b, c)");
    CHECK(short_name("a::operator->() const") == "a::operator->() const");
}

TEST_CASE("code is a program's, creel's or another library's by its name") {
    for (const char* name : {"creel::sync::mutex::lock()", "creel::detail::scheduler::yield()",
                             "void creel::io::run<f>(f&&)", "boost::fibers::mutex::lock()"})
        CHECK(owner(name) == code_owner::creel);
    for (const char* name :
         {"boost::fibers::context::resume(std::unique_lock<int>&)",
          "void boost::context::detail::fiber_entry<X<Y> >(Z)",
          "void std::__invoke_impl<void, f(int)::{lambda()#1}&>(int)",
          "decltype(auto) std::apply<f, std::tuple<> >(f&&, std::tuple<>&&)",
          "std::_Function_handler<void (), g()>::_M_invoke(int)", "std::thread::join()",
          "jump_fcontext", "__libc_start_main@@GLIBC_2.34", "_start"})
        CHECK(owner(name) == code_owner::other);
    for (const char* name : {"main", "(anonymous namespace)::serve(creel::detail::parker&)",
                             "void serve<creel::detail::parker>(int)",
                             "serve(int)::{lambda(creel::detail::x)#1}::operator()() const", ""})
        CHECK(owner(name) == code_owner::program);
}

TEST_CASE("code without namespaces is a program's, creel's or another library's by its file") {
    CHECK(owner("invoke<f()::<lambda()>&>", "/usr/include/c++/12/functional") == code_owner::other);
    for (const char* file :
         {"/usr/include/creel/fibers/detail/task/task_record.hpp", "/usr/include/creel/io/run.hpp",
          "fibers/detail/run/start_context.cpp", "io/run.cpp", "/src/creel/io/run.cpp"})
        CHECK(owner("operator()", file) == code_owner::creel);
    for (const char* file : {"server.cpp", "/src/server/io/reader.cpp", "/src/server/io/run.cpp",
                             "/src/server/io/detail/run.cpp"})
        CHECK(owner("operator()", file) == code_owner::program);
}
