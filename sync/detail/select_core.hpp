// The untyped half of select: tries its cases, or waits at all of them until one happens.
//
// A select has a node in the list of each case, and all nodes share one claim. A party on the other
// side claims before it hands over, so that exactly one case happens; the lists of the other cases
// skip its nodes. The select itself claims, with a CAS on its own claim, before it takes something
// that it finds while it enrolls: until then another party may be first.
//
//     trying --1--> happened
//     trying --2--> enrolling --3--> happened
//                   enrolling --4--> trying
//                   enrolling --5--> parked --6--> happened
//                                    parked --7--> trying
//                                    parked --8--> cancelled
//
//     1  select_one(): attempt() of a case has done it, without a claim or a node.
//     2  select_one(): no attempt() could; the claim is open.
//     3  enroll() says `done`: the select has claimed, and done it.
//     4  enroll() says `again`: the select has claimed, but there is nothing left to do.
//     5  All cases say `waiting`; or one says `taken`: another party has claimed for a case that is
//        enrolled, and the wake is on the way.
//     6  A party that has claimed wakes the select, and happened() of the winner's case is true; or
//        the timer of a case has claimed, by select_waiter::withdraw().
//     7  happened() is false: for a pop, a move of the item has thrown in the other party. (For a
//        push, happened() throws that error, which ends the select.)
//     8  A cancel has claimed, by select_waiter::withdraw().
//
// Whenever the select leaves `enrolling` or `parked`, `enrolled` takes every node off its list.
#pragma once

#include <creel/fibers/time.hpp>
#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace creel::sync {

enum class select_order : std::uint8_t {
    fair,    // of several cases that can happen, each is equally likely
    ordered, // the first case in the order in which they are written
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
    done,    // the select has claimed, and the case has happened
    taken,   // another party has claimed for another case: a wake is on the way
    again,   // the select has claimed, but the item or room is not there any more: begin anew
};

// The functions of one type of case. Not virtual: the cases are on the stack, and one static table
// serves each type.
struct select_kind {
    // Makes the case happen, if that needs no waiting. Throws: the error of moving an item.
    bool (*attempt)(select_case&);
    // Makes a node for `me` and links it, unless the case can happen at once.
    enrolment (*enroll)(select_case&, select_waiter& me);
    // Takes the node off its list, if the node is still linked.
    void (*withdraw)(select_case&) noexcept;
    // After the wake, for the case whose node was claimed. False: it did not happen after all (a
    // move threw in the other party). Throws: the error of moving the item.
    bool (*happened)(select_case&);
    // Appends what the case waits for, as waiter_kind::describe does.
    void (*describe)(select_case&, std::string& text);
};

struct select_case {
    explicit select_case(const select_kind& k) noexcept : kind(&k) {}
    const select_kind* kind;
    wait_node* node = nullptr;               // while it is enrolled
    time_point deadline = time_point::max(); // of a timer, which has no node
    duration span{};
};

// The table of a case of type C, which has attempt(), enroll() and happened(), as in select_kind.
// Once a case is enrolled, it reaches its primitive only through the node: another waiter that has
// gone on may have destroyed the primitive.
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
        else // not enrolled, because another case was claimed first
            text += "its turn, which has come";
    },
};

// The index of the case that has happened.
// Parks: until a case happens. Cancel: yes, no case has happened then. Throws: cancelled; the error
// of a move.
std::size_t select_one(std::span<select_case* const> cases, select_order order);

} // namespace detail
} // namespace creel::sync
