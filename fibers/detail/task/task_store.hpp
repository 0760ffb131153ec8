// The task records of a scheduler: their memory, their numbers, and those that are kept warm.
//
// A warm record was freed and is as good as new. A spawn whose closure fits into the node of a warm
// record takes that record, and writes only the fields that differ from task to task. The warm
// records are the only cache; the node pool under them has none. The states of a record:
//
//   (none) ---- 1 make() -------------------------> in use
//   in use ---- 2 free() -------------------------> warm      if its node is of a class with room
//   in use ---- 3 free() -------------------------> (none)    otherwise
//   warm ------ 4 take_warm(), make() ------------> in use
//   warm ------ 5 trim(), end_run() --------------> (none)
//
// A task of async() is `kept` as well, until free_kept(): its handle may outlive the run, and then
// frees the node itself.
#pragma once

#include <creel/fibers/detail/task/node_pool.hpp>
#include <creel/fibers/detail/task/task_record.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>

namespace creel::detail {

// Threads: the scheduler's own, but for free_left_behind().
class task_store {
public:
    // `stack_bytes`: of a task that asks for no other.
    void begin_run(std::size_t stack_bytes);
    // Records that are still kept belong to their handles from here on.
    void leave_kept_behind() noexcept;
    void end_run() noexcept;

    // Throws: std::bad_alloc.
    [[nodiscard]] task_record* make(nursery_core& parent, std::size_t bytes, std::size_t align,
                                    std::source_location where);
    // A record of warm_task_bytes, the size that most closures fit into; null if there is none, and
    // for one task in 4,096, so that this calls nothing and its caller saves no registers.
    [[nodiscard]] task_record* take_warm() noexcept {
        if (warm_[0].first == nullptr || numbers_are_used_up()) [[unlikely]]
            return nullptr;
        task_record& t = take(warm_[0]);
        t.id = next_number_++;
        return &t;
    }
    // A record that another thread has made, which knows neither our numbers nor our stacks.
    void adopt(task_record& t, nursery_core& parent) noexcept;
    [[gnu::always_inline]] void free(task_record& t) noexcept {
        if (t.node_bytes == warm_task_bytes && t.offset == sizeof(task_record) &&
            warm_[0].count != most_warm) [[likely]]
            keep_warm(t, warm_[0]);
        else
            free_unusual(t);
    }

    // One more record has a handle, which calls free_kept(), or free_left_behind() when the run has
    // ended.
    void count_kept() noexcept { ++kept_; }
    void free_kept(task_record& t) noexcept {
        --kept_;
        free(t);
    }
    // Threads: any.
    static void free_left_behind(task_record& t) noexcept;

    // The number of a new task or fiber. Numbers are taken many at once, so that a spawn writes
    // nothing that threads share. They go on from run to run, so that people read small numbers.
    [[nodiscard]] std::uint64_t take_number() noexcept {
        if (numbers_are_used_up()) [[unlikely]]
            take_numbers();
        return next_number_++;
    }

    // Gives back what lies idle: of the warm records, as many as were there at the last
    // begin_period() and are there now.
    void trim() noexcept;
    void begin_period() noexcept;
    [[nodiscard]] bool has_surplus() const noexcept;

private:
    static constexpr std::uint64_t numbers_at_once = 4096;
    // Per class. Under a sanitizer no node is of a class: warm records would hide a use after free.
    static constexpr std::size_t most_warm = 1024;

    // Records whose nodes are of one class, with the closure at the usual place.
    struct warm_records {
        task_record* first = nullptr; // freed last, used first; linked by next_ready
        std::size_t count = 0;
        std::size_t at_trim = 0;
    };
    static_assert(warm_task_bytes == node_pool::class_bytes[0]);

    [[nodiscard]] task_record& take(warm_records& from) noexcept {
        task_record& t = *from.first;
        from.first = static_cast<task_record*>(t.next_ready);
        --from.count;
        t.stack_bytes = stack_bytes_;
        return t;
    }
    // Writes the fields that take() and its caller do not write.
    static void keep_warm(task_record& t, warm_records& to) noexcept {
        t.next = nullptr;
        t.runner = nullptr;
        t.result = nullptr;
        t.in_line = false; // the four are next to each other: one store
        t.was_called = false;
        t.no_memory = false;
        t.is_background = false;
        if (!t.given_name.empty())
            t.given_name = std::string{}; // with the memory that it may hold
        t.next_ready = to.first;
        to.first = &t;
        ++to.count;
    }
    [[nodiscard]] bool numbers_are_used_up() const noexcept {
        return next_number_ % numbers_at_once == 0;
    }
    void take_numbers() noexcept;
    void free_unusual(task_record& t) noexcept;
    void cool(warm_records& some, std::size_t count) noexcept;

    std::array<warm_records, node_pool::class_bytes.size()> warm_{};
    std::size_t stack_bytes_ = 0; // see begin_run()
    std::size_t kept_ = 0;        // of async(), with a handle
    std::uint64_t next_number_ = 0;
    std::optional<node_pool> nodes_; // during a run
};

} // namespace creel::detail
