// The record of one call of blocking(): f, its error, and how far the call has come.
//
//                       +--5--- sent_back <--4--+
//                       v                       |
//     (new) ---1---> queued --------------------+
//                     |  |
//        dropped <--2-+  +--3--> running ---6---> done
//                                   |
//                                   +-----7---> abandoned ---8---> (destroyed)
//
// Each transition is made by one function of blocking_pool, and each but 8 with the pool's mutex
// held. So the helper thread and the caller never disagree about a call: either the caller finds
// the call done, or the helper thread finds it abandoned.
//
//   1  the caller puts the call at the end of the line        enqueue()    the caller's thread
//   2  the caller is cancelled in the line, or no helper      withdraw()   the caller's thread
//      thread can be had: f does not run                      retry()
//   3  the call is the next of the line                       take()       the helper thread
//   4  another caller has left its helper thread behind, and  send_back()  that caller's thread
//      cannot start a new one: the caller of this call is woken
//   5  the caller puts the call at the front of the line      enqueue()    the caller's thread
//      again, and asks for a thread itself
//   6  f has ended: the caller is woken                       finish()     the helper thread
//   7  the caller is cancelled while f runs, and goes on      withdraw()   the caller's thread
//   8  f has ended: the call is destroyed                     finish()     the helper thread
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>

namespace creel::detail {

class scheduler;
struct call_waiter;
struct local_binding;

// It lies on the caller's stack, or on the heap if it may be abandoned.
struct blocking_call {
    enum class state_type : unsigned char { queued, dropped, sent_back, running, done, abandoned };

    blocking_call(std::string_view called, std::source_location from, void (*f)(blocking_call&))
        : invoke(f), name(called), where(from) {}
    ~blocking_call();
    blocking_call(const blocking_call&) = delete;
    blocking_call& operator=(const blocking_call&) = delete;

    // Runs f here, and keeps its error.
    void run() noexcept;

    // "blocking call "getpwuid" at server.cpp:42". Throws: std::bad_alloc.
    [[nodiscard]] std::string describe() const;
    [[nodiscard]] bool may_be_abandoned() const noexcept { return destroy != nullptr; }

    void (*invoke)(blocking_call&);                     // calls f; may throw
    void (*destroy)(blocking_call&) noexcept = nullptr; // set if the call may be abandoned
    std::exception_ptr error{};                         // written by the helper before `done`
    const std::string name;
    const std::source_location where;

    // The local<T> values of the caller. The call holds them; the helper uses them while f runs.
    local_binding* locals = nullptr;

    // Guarded by the pool's mutex.
    state_type state = state_type::queued;
    call_waiter* caller = nullptr;     // until `done` or `abandoned`
    scheduler* home = nullptr;         // the caller's
    std::uint64_t ticket = 0;          // the call's place among all calls in line
    blocking_call* previous = nullptr; // in the line, or among the abandoned calls
    blocking_call* next = nullptr;
};

// Calls linked through themselves.
struct call_list {
    void push(blocking_call& call) noexcept;
    void push_front(blocking_call& call) noexcept;
    void remove(blocking_call& call) noexcept;

    blocking_call* first = nullptr;
    blocking_call* last = nullptr;
    std::size_t size = 0;
};

} // namespace creel::detail
