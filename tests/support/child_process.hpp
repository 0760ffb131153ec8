// Runs a function in a forked child process, with its stderr captured and a time limit: for
// functions that end a process (assertions, signals, terminate) or change it for good (seccomp,
// resource limits).
//
//     const auto child = test::run_in_child([] { n.spawn(...); });    // aborts
//     INFO(to_string(child));
//     CHECK(child.signal == SIGABRT);
//     CHECK_THAT(child.stderr_text, Catch::Contains("spawn"));
//
// fork() copies only the calling thread, so call this while the process has no other thread: a lock
// that another thread holds is held for ever in the child, and TSan ends a child of a
// multi-threaded process that starts a thread (its option die_after_fork). A ring of the parent is
// useless in the child: make one there.
//
// Assert in the parent, on the returned value. A REQUIRE that fails in the child throws out of the
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
    bool exited = false;     // it ended by itself, with exit_code
    int exit_code = 0;       // if exited
    int signal = 0;          // the signal that killed it, if not exited
    bool timed_out = false;  // SIGKILL killed it because the limit had passed
    std::string stderr_text; // at most its first MiB
};

// When the body returns the child ends by _exit(0). So the child runs no atexit functions, does not
// flush the stdio buffers that it has from the parent, and makes no leak check (which would report
// the parent's memory). An exception that leaves the body terminates, as it does from main. No core
// is dumped, and the child is killed if the parent's thread ends. Its output on stdout is lost
// unless it flushes. Threads: the only thread of the process. Throws: std::system_error if there
// can be no child.
[[nodiscard]] child_result run_in_child(const std::function<void()>& body,
                                        std::chrono::milliseconds limit = std::chrono::seconds{30});

// For the body, where Catch2 cannot be used: aborts if the condition does not hold.
inline void expect(bool holds) {
    if (!holds)
        std::abort();
}

// One line and the captured text, for a failing test's message.
[[nodiscard]] std::string to_string(const child_result& result);

} // namespace creel::test
