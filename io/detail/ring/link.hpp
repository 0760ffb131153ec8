// A member of an intrusive circular list whose head is a bare link.
#pragma once

namespace creel::io::detail {

struct link {
    link* previous = nullptr;
    link* next = nullptr; // null: in no list

    [[nodiscard]] bool linked() const noexcept { return next != nullptr; }

    void unlink() noexcept {
        previous->next = next;
        next->previous = previous;
        previous = next = nullptr;
    }
};

template <typename Member>
class circle {
public:
    circle() noexcept { head_.previous = head_.next = &head_; }
    circle(const circle&) = delete;
    circle& operator=(const circle&) = delete;

    [[nodiscard]] bool empty() const noexcept { return head_.next == &head_; }

    // GCC 12 warns of a member on the stack as if it stayed in the list. It is unlinked before it
    // ends.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer"
#endif
    void push(Member& m) noexcept {
        link& l = m;
        l.previous = head_.previous;
        l.next = &head_;
        head_.previous->next = &l;
        head_.previous = &l;
    }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

    // visit(Member&) unlinks no member.
    template <typename Visit>
    void for_each(Visit visit) noexcept {
        for (link* l = head_.next; l != &head_; l = l->next)
            visit(static_cast<Member&>(*l));
    }

    template <typename Visit>
    void for_each(Visit visit) const noexcept {
        for (const link* l = head_.next; l != &head_; l = l->next)
            visit(static_cast<const Member&>(*l));
    }

    [[nodiscard]] Member& front() noexcept { return static_cast<Member&>(*head_.next); }

    Member& pop() noexcept {
        link& first = *head_.next;
        first.unlink();
        return static_cast<Member&>(first);
    }

private:
    link head_;
};

} // namespace creel::io::detail
