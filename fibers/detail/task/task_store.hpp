// The task records of a scheduler: their memory, their numbers, and those that are kept warm.
//
// A warm task was freed and is as good as new. A spawn whose closure fits takes it and writes only
// what differs from task to task. Other tasks come from the node pool. The states of a record:
//
//   (no record) -- 1 make() -----------> in use
//   in use      -- 2 free() -----------> warm      if its size is the usual one and there is room
//   in use      -- 3 free() -----------> (no record)
//   warm        -- 4 take_warm() ------> in use
//   warm        -- 5 trim(), end_run() -> (no record)
//
// A task of async() is `kept` as well, until free_kept(): its handle may outlive the run, and then
// frees the node itself.
#pragma once

#include <creel/fibers/detail/task/node_pool.hpp>
#include <creel/fibers/detail/task/task_record.hpp>

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
    // Null if there is none.
    [[nodiscard]] task_record* take_warm() noexcept {
        task_record* t = warm_;
        if (t == nullptr) [[unlikely]]
            return nullptr;
        warm_ = static_cast<task_record*>(t->next_ready);
        --warm_count_;
        t->stack_bytes = stack_bytes_;
        t->id = take_number();
        return t;
    }
    // A record that another thread has made, which knows neither our numbers nor our stacks.
    void adopt(task_record& t, nursery_core& parent) noexcept;
    // Leaves in a warm task what take_warm() and its caller need not write.
    [[gnu::always_inline]] void free(task_record& t) noexcept {
        if (t.node_bytes != warm_task_bytes || t.offset != sizeof(task_record) ||
            warm_count_ == most_warm_) [[unlikely]] {
            give_back(t);
            return;
        }
        t.next = nullptr;
        t.runner = nullptr;
        t.result = nullptr;
        t.no_memory = false;
        t.was_called = false;
        if (!t.given_name.empty())
            t.given_name = std::string{}; // with the memory that it may hold
        t.next_ready = warm_;
        warm_ = &t;
        ++warm_count_;
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

    // Of a task or fiber. Numbers are taken many at once, so that a spawn writes nothing that
    // threads share, and go on from run to run, so that people read small ones.
    [[nodiscard]] std::uint64_t take_number() noexcept {
        if (next_number_ % numbers_at_once == 0) [[unlikely]]
            take_numbers();
        return next_number_++;
    }

    // Gives back what was not needed since the last begin_period().
    void trim() noexcept;
    void begin_period() noexcept { warm_at_trim_ = warm_count_; }
    [[nodiscard]] bool has_surplus() const noexcept {
        return warm_count_ != 0 || nodes_->has_surplus();
    }

private:
    static constexpr std::uint64_t numbers_at_once = 4096;

    void take_numbers() noexcept;
    void give_back(task_record& t) noexcept;
    void cool(std::size_t count) noexcept;

    task_record* warm_ = nullptr; // linked by next_ready, freed last, used first
    std::size_t warm_count_ = 0;
    std::size_t most_warm_ = 0; // 0 under a sanitizer: warm tasks would hide a use after free
    std::size_t warm_at_trim_ = 0;
    std::size_t stack_bytes_ = 0; // see begin_run()
    std::size_t kept_ = 0;        // of async(), with a handle
    std::uint64_t next_number_ = 0;
    std::optional<node_pool> nodes_; // during a run
};

} // namespace creel::detail
