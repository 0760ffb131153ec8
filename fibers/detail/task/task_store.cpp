#include <creel/fibers/detail/task/task_store.hpp>

#include <algorithm>
#include <atomic>
#include <utility>

namespace creel::detail {

namespace {

std::atomic<std::uint64_t> number_blocks_taken{0};

} // namespace

void task_store::begin_run(std::size_t stack_bytes) {
    nodes_.emplace();
    stack_bytes_ = stack_bytes;
}

// Never 0, which is the number of a thread without a scheduler. The blocks must only be distinct,
// so relaxed is enough.
void task_store::take_numbers() noexcept {
    const std::uint64_t block = number_blocks_taken.fetch_add(1, std::memory_order_relaxed);
    next_number_ = std::max<std::uint64_t>(block * numbers_at_once, 1);
}

task_record* task_store::make(nursery_core& parent, std::size_t bytes, std::size_t align,
                              std::source_location where) {
    const std::size_t node_bytes = task_record::node_size(bytes, align);
    const std::size_t index = node_pool::class_of(node_bytes);
    task_record* t = nullptr;
    if (index < warm_.size() && warm_[index].first != nullptr && align <= alignof(task_record)) {
        t = &take(warm_[index]);
        t->spawned_at = where;
    } else {
        std::uint32_t granted = 0;
        void* node = nodes_->allocate(node_bytes, granted);
        t = task_record::place(node, granted, align, where);
        t->stack_bytes = stack_bytes_;
    }
    t->id = take_number();
    t->parent = &parent;
    return t;
}

void task_store::adopt(task_record& t, nursery_core& parent) noexcept {
    t.parent = &parent;
    if (t.stack_bytes == 0)
        t.stack_bytes = stack_bytes_;
    t.id = take_number();
}

// A larger node, a closure with an alignment of its own, or there are enough warm ones.
void task_store::free_unusual(task_record& t) noexcept {
    const std::uint32_t granted = t.node_bytes; // 0: from malloc
    if (granted != 0 && t.offset == sizeof(task_record)) {
        warm_records& its_class = warm_[node_pool::class_of(granted)];
        if (its_class.count != most_warm) {
            keep_warm(t, its_class);
            return;
        }
    }
    t.~task_record();
    nodes_->deallocate(&t, granted);
}

void task_store::free_left_behind(task_record& t) noexcept {
    const std::uint32_t granted = t.node_bytes;
    t.~task_record();
    node_pool::deallocate_left_behind(&t, granted);
}

void task_store::cool(warm_records& some, std::size_t count) noexcept {
    for (; count != 0; --count) {
        task_record* const t = some.first;
        some.first = static_cast<task_record*>(t->next_ready);
        --some.count;
        const std::uint32_t granted = t->node_bytes;
        t->~task_record();
        nodes_->deallocate_unneeded(t, granted);
    }
}

void task_store::trim() noexcept {
    for (warm_records& w : warm_)
        cool(w, std::min(w.count, w.at_trim));
    nodes_->trim();
}

void task_store::begin_period() noexcept {
    for (warm_records& w : warm_)
        w.at_trim = w.count;
}

// Asked before each wait of the loop: the common answer for the records needs no branch.
bool task_store::has_surplus() const noexcept {
    std::size_t some = 0;
    for (const warm_records& w : warm_)
        some |= w.count;
    return some != 0 || nodes_->has_surplus();
}

void task_store::leave_kept_behind() noexcept {
    nodes_->leave_behind(std::exchange(kept_, 0));
}

void task_store::end_run() noexcept {
    if (!nodes_)
        return;
    for (warm_records& w : warm_)
        cool(w, w.count);
    nodes_.reset();
}

} // namespace creel::detail
