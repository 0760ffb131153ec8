#include <creel/fibers/detail/blocking/blocking_call.hpp>

#include <creel/fibers/detail/report/throw_trace.hpp>
#include <creel/fibers/local.hpp>

namespace creel::detail {

blocking_call::~blocking_call() {
    drop_locals(locals);
}

void blocking_call::run() noexcept {
    try {
        invoke(*this);
    } catch (const throw_probe&) {
    } catch (...) {
        error = std::current_exception();
    }
}

std::string blocking_call::describe() const {
    std::string text = "blocking call";
    if (!name.empty())
        text += " \"" + name + '"';
    text += " at ";
    text += where.file_name();
    return text + ':' + std::to_string(where.line());
}

void call_list::push(blocking_call& call) noexcept {
    call.previous = last;
    call.next = nullptr;
    (last != nullptr ? last->next : first) = &call;
    last = &call;
    ++size;
}

void call_list::push_front(blocking_call& call) noexcept {
    call.previous = nullptr;
    call.next = first;
    (first != nullptr ? first->previous : last) = &call;
    first = &call;
    ++size;
}

void call_list::remove(blocking_call& call) noexcept {
    (call.previous != nullptr ? call.previous->next : first) = call.next;
    (call.next != nullptr ? call.next->previous : last) = call.previous;
    --size;
}

} // namespace creel::detail
