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
using creel::detail::code_place;
using creel::detail::is_plumbing;

namespace {

code_address exactly(void* function) {
    return {reinterpret_cast<std::uintptr_t>(function), false};
}

constexpr unsigned line_of_function = __LINE__ + 1;
[[gnu::noinline]] int function_with_a_name(int x) {
    return x + 1;
}

bool is_plumbing_named(const char* function) {
    code_place place;
    place.function = function;
    return is_plumbing(place);
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
    CHECK_THAT(names.of(exactly(reinterpret_cast<void*>(&is_plumbing_named))).back().function,
               Catch::Contains("is_plumbing_named"));
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

TEST_CASE("the inner functions of creel, Boost and the standard library are plumbing") {
    CHECK(is_plumbing_named("creel::detail::scheduler::park(creel::waiter&)"));
    CHECK(is_plumbing_named("creel::park(creel::waiter&)"));
    CHECK(is_plumbing_named("boost::fibers::context::resume(std::unique_lock<int>&)"));
    CHECK(is_plumbing_named("void boost::context::detail::fiber_entry<X<Y> >(Z)"));
    CHECK(is_plumbing_named("void std::__invoke_impl<void, f(int)::{lambda()#1}&>(int)"));
    CHECK(is_plumbing_named("decltype(auto) std::apply<f, std::tuple<> >(f&&, std::tuple<>&&)"));
    CHECK(is_plumbing_named("std::_Function_handler<void (), g()>::_M_invoke(int)"));
    CHECK(is_plumbing_named("jump_fcontext"));
    CHECK(is_plumbing_named("creel::list_waiter::wait()"));
    CHECK(is_plumbing_named("creel::(anonymous namespace)::sleep(creel::time_point)"));
    CHECK(is_plumbing_named("__libc_start_main@@GLIBC_2.34"));
}

TEST_CASE("a function without namespaces is known as plumbing by its file") {
    const auto is_plumbing_in = [](const char* function, const char* file) {
        code_place place;
        place.function = function;
        place.file = file;
        return is_plumbing(place);
    };
    CHECK(is_plumbing_in("invoke<f()::<lambda()>&>", "/usr/include/c++/12/functional"));
    CHECK(is_plumbing_in("operator()", "/usr/include/creel/fibers/detail/task/task_record.hpp"));
    CHECK(is_plumbing_in("operator()", "fibers/detail/run/start_context.cpp"));
    CHECK(is_plumbing_in("run<f()::<lambda()> >", "/usr/include/creel/io/run.hpp"));
    CHECK(is_plumbing_in("schedule::(anonymous class)::operator()", "/src/creel/io/run.cpp"));
    CHECK(!is_plumbing_in("creel::io::tcp_listener::accept()", "io/tcp_listener.cpp"));
    CHECK(!is_plumbing_in("void creel::io::run<f>(f&&)", "/usr/include/creel/io/run.hpp"));
    CHECK(!is_plumbing_in("operator()", "server.cpp"));
    CHECK(!is_plumbing_in("operator()", "/src/server/io/reader.cpp"));
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

TEST_CASE("code is a program's, creel's or another library's") {
    using creel::detail::code_owner;
    const auto owner = [](const char* function, const char* file) {
        code_place place;
        place.function = function;
        place.file = file;
        return creel::detail::owner_of(place);
    };
    CHECK(owner("serve(int)", "server.cpp") == code_owner::program);
    CHECK(owner("operator()", "/src/server/io/reader.cpp") == code_owner::program);
    CHECK(owner("creel::sync::mutex::lock()", "") == code_owner::creel);
    CHECK(owner("pop", "/usr/include/creel/sync/queue.hpp") == code_owner::creel);
    CHECK(owner("operator()", "fibers/detail/run/start_context.cpp") == code_owner::creel);
    CHECK(owner("boost::fibers::mutex::lock()", "") == code_owner::creel);
    CHECK(owner("boost::context::detail::f()", "") == code_owner::other);
    CHECK(owner("std::thread::join()", "") == code_owner::other);
    CHECK(owner("__libc_start_main", "") == code_owner::other);
}

TEST_CASE("what a program calls, and its own functions, are no plumbing") {
    CHECK(!is_plumbing_named("creel::mutex::lock()"));
    CHECK(!is_plumbing_named("creel::this_fiber::sleep_for(creel::duration)"));
    CHECK(!is_plumbing_named("boost::fibers::mutex::lock()"));
    CHECK(!is_plumbing_named("main"));
    CHECK(!is_plumbing_named("(anonymous namespace)::serve(creel::detail::parker&)"));
    CHECK(!is_plumbing_named("void serve<creel::detail::parker>(int)"));
    CHECK(!is_plumbing_named("serve(int)::{lambda(creel::detail::x)#1}::operator()() const"));
    CHECK(!is_plumbing_named(""));
}
