#include <creel/io/error.hpp>

#include "support/check.hpp"

#include <cerrno>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace io = creel::io;

namespace {

// The system_error that f throws; if f throws none, one with code 0.
template <class Function>
std::system_error thrown_by(Function f) {
    try {
        f();
    } catch (const std::system_error& error) {
        return error;
    }
    return std::system_error{std::error_code{}, "nothing was thrown"};
}

} // namespace

TEST_CASE("a result that is not negative passes through check unchanged") {
    CHECK(io::check(0, "recv") == 0);
    CHECK(io::check(16384, "recv") == 16384);
    CHECK(io::check(7, [] { return std::string{"recv"}; }) == 7);
}

TEST_CASE("a negative result becomes a system_error that compares with std::errc") {
    const auto error =
        thrown_by([] { static_cast<void>(io::check(-ECONNRESET, "recv from 10.0.0.1:80")); });
    CHECK(error.code() == std::errc::connection_reset);
    CHECK(error.code() != std::errc::broken_pipe);
    CHECK(error.code().category() == std::generic_category());
    CHECK(error.code().value() == ECONNRESET);
    CHECK_THAT(error.what(), Catch::StartsWith("recv from 10.0.0.1:80: "));
    CHECK_THAT(error.what(), Catch::EndsWith(std::generic_category().message(ECONNRESET)));
}

TEST_CASE("check takes a literal, a string and a string_view as text") {
    const std::string text = "connect to 10.0.0.1:80";
    for (const auto& error : {thrown_by([&] { io::check(-EPERM, text); }),
                              thrown_by([&] { io::check(-EPERM, std::string_view{text}); }),
                              thrown_by([&] { io::check(-EPERM, "connect to 10.0.0.1:80"); })}) {
        CHECK(error.code() == std::errc::operation_not_permitted);
        CHECK_THAT(error.what(), Catch::StartsWith(text));
    }
}

TEST_CASE("the text is described only when there is an error") {
    int described = 0;
    const auto describe = [&] {
        ++described;
        return std::string{"send to unix:/run/x.sock"};
    };
    CHECK(io::check(1, describe) == 1);
    CHECK(described == 0);
    const auto error = thrown_by([&] { io::check(-EPIPE, describe); });
    CHECK(described == 1);
    CHECK(error.code() == std::errc::broken_pipe);
    CHECK_THAT(error.what(), Catch::StartsWith("send to unix:/run/x.sock: "));
}

TEST_CASE("describing may use what cannot be copied and what changes") {
    auto owner = std::make_unique<int>(3);
    auto describe = [owner = std::move(owner)]() mutable {
        return "attempt " + std::to_string(++*owner);
    };
    CHECK_THAT(thrown_by([&] { io::check(-EIO, describe); }).what(),
               Catch::StartsWith("attempt 4: "));
}

TEST_CASE("throw_error throws the error it was given") {
    const auto error = thrown_by([] { io::throw_error(EMFILE, "accept on 0.0.0.0:80"); });
    CHECK(error.code() == std::errc::too_many_files_open);
    CHECK_THAT(error.what(), Catch::StartsWith("accept on 0.0.0.0:80 (`ulimit -n` is "));
}

TEST_CASE("unexpected_eof says how much had come and on what") {
    static_assert(std::is_nothrow_copy_constructible_v<io::unexpected_eof>);
    static_assert(std::is_base_of_v<std::runtime_error, io::unexpected_eof>);
    static_assert(!std::is_base_of_v<std::system_error, io::unexpected_eof>);
    std::exception_ptr stored;
    try {
        throw io::unexpected_eof{"recv from 10.0.0.1:80", 12};
    } catch (...) {
        stored = std::current_exception();
    }
    std::size_t received_bytes = 0;
    std::string what;
    try {
        std::rethrow_exception(stored);
    } catch (const io::unexpected_eof& error) {
        received_bytes = error.received_bytes();
        what = error.what();
    }
    CHECK(received_bytes == 12);
    CHECK(what == "recv from 10.0.0.1:80: unexpected end after 12 bytes");
}
