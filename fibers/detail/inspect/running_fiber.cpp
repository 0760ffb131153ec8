#include <creel/fibers/detail/inspect/running_fiber.hpp>

#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/detail/system/own_memory.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <new>
#include <source_location>
#include <span>

namespace creel::detail {

namespace {

constexpr std::size_t longest_name = 64;

// The copy of a T that need not be one.
template <typename T>
struct copied {
    [[nodiscard]] bool read(const T* from) noexcept { return copy_memory(from, bytes); }
    [[nodiscard]] const T& operator*() const noexcept {
        return *std::launder(reinterpret_cast<const T*>(bytes.data()));
    }

    alignas(T) std::array<std::byte, sizeof(T)> bytes{};
};

// A short string may lie within the object: then the copy points to the original, or has its own.
std::string copy_of_text(const char* from, std::size_t bytes) {
    std::string text(std::min(bytes, longest_name), '\0');
    return copy_memory(from, std::as_writable_bytes(std::span{text})) ? text : std::string{};
}

// A text that ends with a 0. It may be gone, and the end of its page the end of what is there.
std::size_t copy_constant(const char* from, std::span<char, longest_name> to) {
    constexpr std::size_t page_bytes = 4096; // or more
    const std::size_t left = page_bytes - reinterpret_cast<std::uintptr_t>(from) % page_bytes;
    const std::size_t first = std::min(left, longest_name);
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span<char>{to});
    if (!copy_memory(from, bytes.first(first)))
        return 0;
    const auto length = [&](std::size_t copied) { return ::strnlen(to.data(), copied); };
    if (length(first) < first || first == longest_name)
        return length(first);
    return copy_memory(from + first, bytes.subspan(first)) ? length(longest_name) : 0;
}

std::string copy_of_name(const task_record& t) {
    copied<std::string> name;
    if (name.read(&t.given_name) && !(*name).empty())
        return copy_of_text((*name).data(), (*name).size());
    copied<const closure_kind*> of_closure;
    copied<closure_kind> kind;
    if (!of_closure.read(&t.kind_of_closure) || !kind.read(*of_closure) ||
        (*kind).label.number == 0)
        return {};
    std::array<char, longest_name> call{};
    const std::size_t bytes = copy_constant((*kind).label.call, call);
    if (bytes == 0)
        return {};
    std::string text{call.data(), bytes};
    return text.append(" #").append(std::to_string((*kind).label.number));
}

// The addresses of members are computed, and nothing is read, so a record that is gone is no fault.
CREEL_NOT_INSTRUMENTED bool copy_task(const task_record* t, const fiber_record* runner,
                                      task_info& to) {
    copied<fiber_record*> bound;
    copied<std::uint64_t> id;
    copied<std::source_location> where;
    if (!bound.read(&t->runner) || *bound != runner || !id.read(&t->id) ||
        !where.read(&t->spawned_at))
        return false;
    to = {*id, copy_of_name(*t), *where};
    return true;
}

CREEL_NOT_INSTRUMENTED running_fiber copy_fiber(const fiber_record* f) {
    using kind_type = running_fiber::kind_type;
    running_fiber found;
    copied<fiber_record::fiber_kind> what;
    copied<std::uint64_t> id;
    copied<task_record*> task;
    if (f == nullptr || !what.read(&f->what) || !id.read(&f->id) || !task.read(&f->current))
        return found;
    found.who.id = *id;
    switch (*what) {
    case fiber_record::fiber_kind::main:
        found.kind = kind_type::main;
        break;
    case fiber_record::fiber_kind::native:
        found.kind = kind_type::native;
        break;
    case fiber_record::fiber_kind::dispatcher:
        found.kind = kind_type::creel;
        break;
    case fiber_record::fiber_kind::carrier:
        if (*task == nullptr)
            found.kind = kind_type::creel;
        else if (copy_task(*task, f, found.who))
            found.kind = kind_type::task;
        break;
    }
    return found;
}

} // namespace

// The owner writes these words plainly. The processor reads an aligned word whole.
CREEL_NOT_INSTRUMENTED run_progress scheduler::progress() const noexcept {
    run_progress p;
    p.sleeps = incoming_.owner_sleeps();
    p.reports = live.reports();
    p.last_poll = live.last_poll();
    p.switches = __atomic_load_n(&counters_.switches, __ATOMIC_RELAXED);
    p.pulse = pace_.pulse();
    p.running = __atomic_load_n(&current_, __ATOMIC_RELAXED);
    return p;
}

running_fiber running_fiber_of(const scheduler& s) {
    const std::uint64_t run = s.run_number();
    const run_progress before = s.progress();
    running_fiber found = copy_fiber(before.running);
    if (s.progress() != before || s.run_number() != run)
        return {};
    return found;
}

std::string to_text(const running_fiber& f) {
    switch (f.kind) {
    case running_fiber::kind_type::main:
        return "main (#" + std::to_string(f.who.id) + ')';
    case running_fiber::kind_type::task:
        return escaped(to_string(f.who));
    case running_fiber::kind_type::native:
        return "Boost fiber #" + std::to_string(f.who.id);
    case running_fiber::kind_type::creel:
        return "creel's own loop";
    case running_fiber::kind_type::unknown:
        break;
    }
    return "a fiber";
}

} // namespace creel::detail
