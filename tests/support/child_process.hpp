// Runs a function in a forked child process, with its stderr captured and a time limit: for what
// ends a process (assertions, signals, terminate) or changes it for good (seccomp, resource
// limits).
//
//     const auto child = test::run_in_child([] { n.spawn(...); });    // aborts
//     INFO(to_string(child));
//     CHECK(child.signal == SIGABRT);
//     CHECK_THAT(child.stderr_text, Catch::Contains("spawn"));
//
// Fork copies only the calling thread, so call this while the process has no other: a lock that
// another thread holds is held for ever in the child, and TSan ends a child of a multi-threaded
// process that starts a thread (its option die_after_fork). A ring of the parent is useless in the
// child; make one there.
//
// Assert in the parent, on what is returned. A failing REQUIRE in the child throws out of the
// function and so shows as SIGABRT. Crashes that a sanitizer reports are exits, not signals: ASan
// turns SIGSEGV into exit code 1 and TSan into 66; abort() stays SIGABRT.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <string>

namespace creel::test {

struct child_result {
    bool exited = false;     // it ended by itself: exit_code says how
    int exit_code = 0;       // if exited
    int signal = 0;          // what killed it, if not exited
    bool timed_out = false;  // it was killed, by SIGKILL, because the limit had passed
    std::string stderr_text; // at most its first MiB
};

// The child ends by _exit(0) when the body returns, so neither atexit functions, nor stdio's
// buffers copied from the parent, nor the leak check (which would report what the parent holds)
// run in it. An exception that leaves the body terminates, as it would from main. No core is
// dumped, and the child is killed if the parent's thread ends. What it printed on stdout is lost
// unless it flushes.
// Threads: the only one of the process. Throws: std::system_error if there can be no child.
[[nodiscard]] child_result run_in_child(const std::function<void()>& body,
                                        std::chrono::milliseconds limit = std::chrono::seconds{30});

// For the body: aborts, where Catch2 cannot be used.
inline void expect(bool holds) {
    if (!holds)
        std::abort();
}

// One line and the captured text, for a failing test's message.
[[nodiscard]] std::string to_string(const child_result& result);

} // namespace creel::test
