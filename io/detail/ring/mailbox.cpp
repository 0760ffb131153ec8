#include <creel/io/detail/ring/mailbox.hpp>

#include <utility>

namespace creel::io::detail {

// In a forked child the mutex may be held, by a thread that is not there.
bool mailbox::post(mail& m) {
    if (is_parents())
        return false;
    const std::lock_guard lock{mutex_};
    if (owner_ == nullptr)
        return false;
    m.next_mail = std::exchange(first_, &m);
    owner_->wake(); // under the lock: the owner cannot end meanwhile
    return true;
}

bool mailbox::has_owner() {
    if (is_parents())
        return false;
    const std::lock_guard lock{mutex_};
    return owner_ != nullptr;
}

void mailbox::deliver() noexcept {
    mail* m = nullptr;
    {
        const std::lock_guard lock{mutex_};
        m = std::exchange(first_, nullptr);
    }
    while (m != nullptr) {
        mail* next = m->next_mail;
        m->deliver(*m);
        m = next;
    }
}

void mailbox::owner_ends() noexcept {
    const std::lock_guard lock{mutex_};
    owner_ = nullptr;
}

} // namespace creel::io::detail
