// The untyped half of select: tries its cases, or waits at all of them until one happens.
//
// At each list it waits in it has a node of its own, and all nodes share one claim. A party on the
// other side claims before it hands over, so exactly one case happens; the lists of the others pass
// its nodes by. select itself claims, with a CAS on its own claim, before it takes what it finds
// while it is enrolling: until then another may have been first.
#pragma once

#include <creel/fibers/time.hpp>
#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace creel::sync {

enum class select_order : std::uint8_t {
    fair,    // of several cases that can happen, each is as likely
    ordered, // the first in the order they are written
};

namespace detail {

struct select_case;

class select_waiter final : public waiter {
public:
    explicit select_waiter(std::span<select_case* const> all) noexcept : waiter(kind), cases(all) {}
    wait_claim claim;
    std::span<select_case* const> cases;

private:
    static withdrawal withdraw(waiter& w, wake_reason why) noexcept;
    static void describe(const waiter& w, std::string& text);
    static const waiter_kind kind;
};

inline constexpr std::size_t most_cases = 32;

enum class enrolment : std::uint8_t {
    waiting, // its node is in the list
    done,    // it was claimed and has happened
    taken,   // another case was claimed meanwhile: a wake is on the way
    again,   // it was claimed, but what was there has gone: begin anew
};

// What one case can do. No virtual: the cases are on the stack, and one table serves each type.
struct select_kind {
    // Does it, if that needs no waiting. Throws: what moving an item throws.
    bool (*attempt)(select_case&);
    // Makes a node for `me` and links it, unless it can be done at once.
    enrolment (*enroll)(select_case&, select_waiter& me);
    // Takes the node off its list, if it is still there.
    void (*withdraw)(select_case&) noexcept;
    // After the wake, for the one whose node was claimed. False: it did not happen after all (a
    // move threw in the other party). Throws: what moving the item threw.
    bool (*happened)(select_case&);
    // What it waits for, as waiter_kind::describe.
    void (*describe)(select_case&, std::string& text);
};

struct select_case {
    explicit select_case(const select_kind& k) noexcept : kind(&k) {}
    const select_kind* kind;
    wait_node* node = nullptr;               // while it is enrolled
    time_point deadline = time_point::max(); // of a timer, which has no node
    duration span{};
};

// What a case of type C needs to be one: attempt, enroll and happened, as in select_kind. Once it
// is enrolled its primitive is looked at only through the node: another who was let through may
// have destroyed it.
template <typename C>
inline constexpr select_kind kind_of{
    [](select_case& c) { return static_cast<C&>(c).attempt(); },
    [](select_case& c, select_waiter& me) { return static_cast<C&>(c).enroll(me); },
    [](select_case& c) noexcept {
        if (wait_list* from = c.node->leave_list())
            from->guard().unlock();
        c.node = nullptr;
    },
    [](select_case& c) { return static_cast<C&>(c).happened(); },
    [](select_case& c, std::string& text) {
        if (c.node != nullptr)
            c.node->describe_list(text);
        else // not enrolled, for another had been claimed already
            text += "its turn, which has come";
    },
};

// The index of the one that has happened.
// Parks: until one happens. Cancel: yes, none has happened then. Throws: cancelled, what a move
// throws.
std::size_t select_one(std::span<select_case* const> cases, select_order order);

} // namespace detail
} // namespace creel::sync
