#include <creel/fibers/detail/stack/stack_pool.hpp>

#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/memory.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <new>
#include <random>
#include <utility>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(CREEL_TEST_ASAN)
#include <sanitizer/asan_interface.h>
#endif

using namespace creel::test;
using creel::detail::stack_guard;
using creel::detail::stack_memory;
using creel::detail::stack_pool;
using creel::detail::stack_pool_statistics;

namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t default_bytes = 256 * kib;

// Releases all stacks at the end of a test: a pool demands it.
class borrowed_stacks {
public:
    explicit borrowed_stacks(stack_pool& pool) : pool_(pool) {}
    borrowed_stacks(const borrowed_stacks&) = delete;
    borrowed_stacks& operator=(const borrowed_stacks&) = delete;
    ~borrowed_stacks() { release_all(); }

    stack_memory allocate(std::size_t bytes = default_bytes) {
        stacks_.reserve(stacks_.size() + 1);
        return stacks_.emplace_back(pool_.allocate(bytes));
    }
    void allocate_many(std::size_t count, std::size_t bytes = default_bytes) {
        stacks_.reserve(stacks_.size() + count);
        for (std::size_t index = 0; index != count; ++index)
            stacks_.push_back(pool_.allocate(bytes));
    }
    void release_last() {
        pool_.release(stacks_.back());
        stacks_.pop_back();
    }
    void release_all() {
        while (!stacks_.empty())
            release_last();
    }
    const std::vector<stack_memory>& all() const { return stacks_; }

private:
    stack_pool& pool_;
    std::vector<stack_memory> stacks_;
};

std::byte* bottom(stack_memory stack) {
    return stack.top - stack.bytes;
}

// The page that a fiber touches first.
std::uint64_t& word_at_top(stack_memory stack) {
    return *reinterpret_cast<std::uint64_t*>(stack.top - sizeof(std::uint64_t)); // NOLINT
}

std::uint64_t& word_at_bottom(stack_memory stack) {
    return *reinterpret_cast<std::uint64_t*>(bottom(stack)); // NOLINT
}

// Whether the usable part is writable to its last byte, and a write up to 64 KiB below it ends the
// process.
bool is_guarded(stack_memory stack) {
    const auto write = [](std::byte* where) {
        return run_in_child([where] { *static_cast<volatile std::byte*>(where) = std::byte{1}; });
    };
    const auto inside = write(bottom(stack));
    return inside.exited && inside.exit_code == 0 && died_of_a_fault(write(bottom(stack) - 1)) &&
           died_of_a_fault(write(bottom(stack) - 64 * kib));
}

bool kernel_has_guards() {
    stack_pool pool;
    pool.release(pool.allocate(default_bytes));
    return pool.statistics().guard == stack_guard::madvise;
}

} // namespace

TEST_CASE("a stack has the size asked for or the next power of two, and whole pages") {
    const auto [asked, given] = GENERATE(table<std::size_t, std::size_t>({
        {0, 16 * kib},
        {1, 16 * kib},
        {16 * kib, 16 * kib},
        {16 * kib + 1, 32 * kib},
        {64 * kib, 64 * kib},
        {100'000, 128 * kib},
        {256 * kib, 256 * kib},
        {8 * kib * kib - 1, 8 * kib * kib},
        {kib * kib * kib, kib * kib * kib},
    }));
    stack_pool pool;
    borrowed_stacks stacks{pool};
    const stack_memory stack = stacks.allocate(asked);
    CHECK(stack.bytes == given);
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    CHECK(reinterpret_cast<std::uintptr_t>(stack.top) % page == 0);
    word_at_top(stack) = 1;
    word_at_bottom(stack) = 2;
    CHECK(pool.statistics().stacks_in_use == 1);
}

TEST_CASE("a stack above 1 GiB is refused, and the pool goes on") {
    stack_pool pool;
    CHECK_THROWS_AS(pool.allocate(kib * kib * kib + 1), std::bad_alloc);
    CHECK_THROWS_AS(pool.allocate(SIZE_MAX), std::bad_alloc);
    CHECK(pool.statistics().stacks_in_use == 0);
    CHECK(pool.statistics().mapped_bytes == 0);
    pool.release(pool.allocate(default_bytes));
}

TEST_CASE("the stack released last is the next to be allocated, with what was left in it") {
    stack_pool pool;
    const stack_memory first = pool.allocate(default_bytes);
    const stack_memory second = pool.allocate(default_bytes);
    const stack_memory other_size = pool.allocate(64 * kib);
    word_at_top(first) = 1;
    word_at_top(second) = 2;
    pool.release(second);
    pool.release(first);
    pool.release(other_size);
    CHECK(pool.statistics().stacks_idle == 3);
    const stack_memory again = pool.allocate(default_bytes);
    CHECK(again.top == first.top);
    CHECK(word_at_top(again) == 1);
    const stack_memory second_again = pool.allocate(default_bytes);
    CHECK(second_again.top == second.top);
    CHECK(word_at_top(second_again) == 2);
    CHECK(pool.statistics().stacks_idle == 1);
    CHECK(pool.statistics().stacks_in_use == 2);
    pool.release(again);
    pool.release(second_again);
}

TEST_CASE("a write below a stack ends the process, whichever kind of guard it has") {
    const stack_guard guard = GENERATE(stack_guard::madvise, stack_guard::mprotect);
    CAPTURE(guard == stack_guard::madvise);
    stack_pool pool{guard};
    borrowed_stacks stacks{pool};
    stacks.allocate_many(40); // two arenas
    CHECK(is_guarded(stacks.all().front()));
    CHECK(is_guarded(stacks.all()[1]));
    CHECK(is_guarded(stacks.all().back()));
}

TEST_CASE("a guard survives the trimming of its stack and its neighbours") {
    const stack_guard guard = GENERATE(stack_guard::madvise, stack_guard::mprotect);
    CAPTURE(guard == stack_guard::madvise);
    stack_pool pool{guard};
    const stack_memory keeps_arena = pool.allocate(default_bytes);
    std::vector<stack_memory> stacks;
    for (int index = 0; index != 10; ++index)
        stacks.push_back(pool.allocate(default_bytes));
    for (const stack_memory stack : stacks)
        word_at_top(stack) = 1;
    for (const stack_memory stack : stacks)
        pool.release(stack);
    pool.trim(0);
    CHECK(pool.statistics().stacks_trimmed == 10);
    CHECK(pool.statistics().arenas == 1);
    std::vector<stack_memory> again;
    for (int index = 0; index != 10; ++index) {
        again.push_back(pool.allocate(default_bytes));
        CHECK(word_at_top(again.back()) == 0);
        CHECK(std::any_of(stacks.begin(), stacks.end(),
                          [&](stack_memory old) { return old.top == again.back().top; }));
    }
    CHECK(pool.statistics().stacks_trimmed == 0);
    CHECK(is_guarded(again.front()));
    CHECK(is_guarded(again[4]));
    CHECK(is_guarded(again.back()));
    CHECK(is_guarded(keeps_arena));
    for (const stack_memory stack : again)
        pool.release(stack);
    pool.release(keeps_arena);
}

TEST_CASE("trimming keeps the stacks released last and gives back the memory of the others") {
    stack_pool pool;
    const stack_memory in_use = pool.allocate(default_bytes);
    word_at_top(in_use) = 42;
    borrowed_stacks stacks{pool};
    stacks.allocate_many(4000);
    for (const stack_memory stack : stacks.all())
        word_at_top(stack) = word_at_bottom(stack) = 1;
    stacks.release_all();
    const std::size_t touched = resident_bytes();
    pool.trim(10);
    // 3,990 stacks of two touched pages; the kernel's figure may lag by some dozens of pages.
    CHECK(touched - resident_bytes() > 3900 * 2 * 4 * kib);
    CHECK(pool.statistics().stacks_idle - pool.statistics().stacks_trimmed == 10);
    CHECK(word_at_top(in_use) == 42);

    std::size_t warm = 0;
    stacks.allocate_many(4000);
    for (const stack_memory stack : stacks.all())
        warm += word_at_top(stack) == 1 && word_at_bottom(stack) == 1 ? 1 : 0;
    CHECK(warm == 10);
    pool.release(in_use);
}

TEST_CASE("a pool trimmed to nothing has no mapping left, and works again") {
    const stack_guard guard = GENERATE(stack_guard::madvise, stack_guard::mprotect);
    CAPTURE(guard == stack_guard::madvise);
    stack_pool pool{guard};
    borrowed_stacks stacks{pool};
    const std::size_t mappings = mapping_count();
    const std::size_t address_space = address_space_bytes();
    for (int round = 0; round != 3; ++round) {
        stacks.allocate_many(3000);
        stacks.allocate_many(100, 64 * kib);
        const stack_pool_statistics full = pool.statistics();
        CHECK(full.stacks_in_use == 3100);
        CHECK(full.stacks_idle == 0);
        CHECK(full.arenas > 2);
        CHECK(full.mapped_bytes > 3000 * default_bytes + 100 * 64 * kib);
        stacks.release_all();
        CHECK(pool.statistics().stacks_idle == 3100);
        pool.trim(0);
        const stack_pool_statistics none = pool.statistics();
        CHECK(none.stacks_idle == 0);
        CHECK(none.stacks_trimmed == 0);
        CHECK(none.arenas == 0);
        CHECK(none.mapped_bytes == 0);
        CHECK(none.mprotect_guards == 0);
        // Three rounds of 760 MiB each came and went.
        CHECK(address_space_bytes() < address_space + 100 * kib * kib);
        // malloc may have mapped a little for the list of stacks; TSan maps shadow and keeps it.
        if (!under_tsan)
            CHECK(mapping_count() <= mappings + 20);
    }
}

TEST_CASE("an arena with a stack in use stays, and its idle stacks are reused first") {
    stack_pool pool;
    borrowed_stacks stacks{pool};
    stacks.allocate_many(16); // the first arena
    const stack_memory held = stacks.all()[7];
    const std::size_t first_arena_bytes = pool.statistics().mapped_bytes;
    {
        borrowed_stacks more{pool};
        more.allocate_many(200);
        CHECK(pool.statistics().arenas > 1);
    }
    for (const stack_memory stack : stacks.all())
        word_at_top(stack) = 7;
    // All but one are released for a while.
    std::vector<stack_memory> released;
    for (const stack_memory stack : stacks.all())
        if (stack.top != held.top)
            released.push_back(stack);
    for (const stack_memory stack : released)
        pool.release(stack);
    pool.trim(0);
    CHECK(pool.statistics().arenas == 1);
    CHECK(pool.statistics().mapped_bytes == first_arena_bytes);
    CHECK(pool.statistics().stacks_in_use == 1);
    CHECK(word_at_top(held) == 7);
    for (std::size_t index = 0; index != released.size(); ++index)
        static_cast<void>(pool.allocate(default_bytes));
    CHECK(pool.statistics().arenas == 1);
    CHECK(pool.statistics().stacks_idle == 0);
}

TEST_CASE("untouched stacks cost no memory and few mappings, 40,000 of them") {
#if defined(CREEL_TEST_ASAN)
    const std::size_t count = 2000; // ASan's shadow is an eighth of every stack
#else
    const std::size_t count = 40'000;
#endif
    if (!kernel_has_guards()) {
        WARN("the kernel has no MADV_GUARD_INSTALL");
        return;
    }
    stack_pool pool;
    borrowed_stacks stacks{pool};
    const std::size_t mappings = mapping_count();
    [[maybe_unused]] const std::size_t resident = resident_bytes();
    stacks.allocate_many(count);
    CHECK(pool.statistics().mprotect_guards == 0);
    CHECK(pool.statistics().arenas < count / 1024 + 16);
    // The arenas and their parts in TSan's shadow; without a sanitizer neighbours become one.
    CHECK(mapping_count() - mappings < 3 * pool.statistics().arenas + 8);
#if !defined(CREEL_TEST_ASAN) && !defined(CREEL_TEST_TSAN)
    // Two lists of them, 16 and 8 bytes each, and no stack.
    CHECK(resident_bytes() - resident < count * 64);
#endif
    CHECK(is_guarded(stacks.all()[count / 2]));
    CHECK(is_guarded(stacks.all().back()));
}

TEST_CASE("mprotect guards are counted, as long as they are there") {
    stack_pool pool{stack_guard::mprotect};
    borrowed_stacks stacks{pool};
    const std::size_t mappings = mapping_count();
    stacks.allocate_many(100);
    CHECK(pool.statistics().guard == stack_guard::mprotect);
    CHECK(pool.statistics().mprotect_guards == 100);
    CHECK(mapping_count() - mappings >= 199);
    stacks.release_all();
    CHECK(pool.statistics().mprotect_guards == 100);
    stacks.allocate_many(100);
    CHECK(pool.statistics().mprotect_guards == 100);
    stacks.release_all();
    pool.trim(0);
    CHECK(pool.statistics().mprotect_guards == 0);
}

namespace {

// An older kernel's answers to process_madvise and, before 6.13, to madvise(_, _, 102).
void refuse_guards(bool also_single_ones) {
    const unsigned refuse = SECCOMP_RET_ERRNO | EINVAL;
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, refuse),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (!also_single_ones)
        filter[4].jt = 1;
    const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
    expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

} // namespace

TEST_CASE("where the kernel refuses MADV_GUARD_INSTALL, guards are made by mprotect") {
    CHECK(failure_of([] {
              refuse_guards(true);
              stack_pool pool;
              expect(pool.statistics().guard == stack_guard::madvise);
              {
                  borrowed_stacks stacks{pool};
                  stacks.allocate_many(20);
                  expect(pool.statistics().guard == stack_guard::mprotect);
                  expect(pool.statistics().mprotect_guards == 20);
                  for (const stack_memory stack : stacks.all())
                      word_at_bottom(stack) = 1;
                  expect(is_guarded(stacks.all().front()));
              }
          }) == "");
}

TEST_CASE("where the kernel guards one range a call only, every stack has its guard too") {
    if (!kernel_has_guards()) {
        WARN("the kernel has no MADV_GUARD_INSTALL");
        return;
    }
    CHECK(failure_of([] {
              refuse_guards(false);
              stack_pool pool;
              borrowed_stacks stacks{pool};
              stacks.allocate_many(100);
              expect(pool.statistics().guard == stack_guard::madvise);
              expect(pool.statistics().mprotect_guards == 0);
              for (const unsigned index : {0U, 1U, 15U, 16U, 40U, 99U})
                  expect(is_guarded(stacks.all()[index]));
          }) == "");
}

TEST_CASE("an arena whose unused stacks are guarded ahead of use is unmapped with its last stack") {
    stack_pool pool;
    borrowed_stacks stacks{pool};
    for (const std::size_t count : {1U, 2U, 17U, 50U, 999U}) {
        stacks.allocate_many(count);
        CHECK(is_guarded(stacks.all().back()));
        stacks.release_all();
        pool.trim(0);
        CHECK(pool.statistics().arenas == 0);
        CHECK(pool.statistics().mapped_bytes == 0);
    }
}

TEST_CASE("an address in a guard names the stack above it and any other names none") {
    stack_pool pool;
    borrowed_stacks stacks{pool};
    stacks.allocate_many(20);
    stacks.allocate_many(3, 64 * kib);
    for (const stack_memory stack : stacks.all()) {
        const std::byte* const last = bottom(stack) - 1;
        CHECK(pool.guarded_by(last).top == stack.top);
        CHECK(pool.guarded_by(last).bytes == stack.bytes);
        CHECK(pool.guarded_by(last - 64 * kib).top == stack.top);
        CHECK(pool.guarded_by(bottom(stack)).top == nullptr);
        CHECK(pool.guarded_by(stack.top - 1).top == nullptr);
    }
    CHECK(pool.guarded_by(&pool).top == nullptr);
    CHECK(pool.guarded_by(nullptr).top == nullptr);
}

TEST_CASE("a pool that ends with a stack in use, and a stack released twice, abort by name") {
    CHECK_THAT(abort_of([] {
                   stack_pool pool;
                   static_cast<void>(pool.allocate(default_bytes));
               }),
               Catch::Contains("outlived"));
    CHECK_THAT(abort_of([] {
                   stack_pool pool;
                   const stack_memory stack = pool.allocate(default_bytes);
                   pool.release(stack);
                   pool.release(stack);
               }),
               Catch::Contains("released twice"));
}

// Sanitizers map address space of their own, and do not work without it.
#if !defined(CREEL_TEST_ASAN) && !defined(CREEL_TEST_TSAN)

namespace {

bool is_exhausted(stack_pool& pool, std::size_t bytes) {
    try {
        pool.release(pool.allocate(bytes));
        return false;
    } catch (const std::bad_alloc&) {
        return true;
    }
}

} // namespace

TEST_CASE("with no address space left allocate throws, and goes on when there is some again") {
    CHECK(failure_of([] {
              stack_pool pool;
              std::vector<stack_memory> stacks;
              stacks.reserve(100'000);
              const std::size_t room = 100 * kib * kib;
              limit_address_space(address_space_bytes() + room);
              try {
                  for (;;)
                      stacks.push_back(pool.allocate(default_bytes));
              } catch (const std::bad_alloc&) {
              }
              // The room is used up to the last few stacks, though arenas grow by doubling.
              expect(stacks.size() > room / (default_bytes + 68 * kib) * 9 / 10);
              expect(pool.statistics().stacks_in_use == stacks.size());
              for (const stack_memory stack : stacks)
                  word_at_top(stack) = 1;
              expect(is_exhausted(pool, default_bytes));

              pool.release(stacks.back());
              stacks.pop_back();
              expect(!is_exhausted(pool, default_bytes));
              stacks.push_back(pool.allocate(default_bytes));
              expect(is_exhausted(pool, default_bytes));

              limit_address_space(RLIM_INFINITY);
              for (int index = 0; index != 5000; ++index)
                  stacks.push_back(pool.allocate(default_bytes));
              for (const stack_memory stack : stacks)
                  pool.release(stack);
          }) == "");
}

TEST_CASE("idle stacks of one size make room for another size when address space is short") {
    CHECK(failure_of([] {
              stack_pool pool;
              std::vector<stack_memory> stacks;
              stacks.reserve(100'000);
              limit_address_space(address_space_bytes() + 100 * kib * kib);
              try {
                  for (;;)
                      stacks.push_back(pool.allocate(64 * kib));
              } catch (const std::bad_alloc&) {
              }
              expect(is_exhausted(pool, 32 * kib * kib));
              for (const stack_memory stack : stacks)
                  pool.release(stack);
              expect(!is_exhausted(pool, 32 * kib * kib));
          }) == "");
}

TEST_CASE("with no mapping left for an mprotect guard allocate throws, and trimming helps") {
    CHECK(failure_of([] {
              stack_pool pool{stack_guard::mprotect};
              std::vector<stack_memory> stacks;
              stacks.reserve(1'000'000);
              try {
                  for (std::size_t index = 0; index != 1'000'000; ++index)
                      stacks.push_back(pool.allocate(16 * kib));
                  std::_Exit(0); // no such limit here
              } catch (const std::bad_alloc&) {
              }
              expect(stacks.size() > 1000);
              expect(pool.statistics().mprotect_guards == stacks.size());
              pool.release(stacks.back());
              stacks.pop_back();
              stacks.push_back(pool.allocate(16 * kib));
              while (stacks.size() > 10) {
                  pool.release(stacks.back());
                  stacks.pop_back();
              }
              pool.trim(0);
              expect(pool.statistics().mprotect_guards <= 16);
              for (int index = 0; index != 1000; ++index)
                  stacks.push_back(pool.allocate(16 * kib));
              for (const stack_memory stack : stacks)
                  pool.release(stack);
          }) == "");
}

#endif

#if defined(CREEL_TEST_ASAN)
TEST_CASE("what a fiber left poisoned is addressable to the next user of its stack") {
    stack_pool pool;
    stack_memory stack = pool.allocate(default_bytes);
    __asan_poison_memory_region(bottom(stack), stack.bytes);
    pool.release(stack);
    stack = pool.allocate(default_bytes);
    CHECK(__asan_region_is_poisoned(bottom(stack), stack.bytes) == nullptr);
    pool.release(stack);
}
#endif

TEST_CASE("random use keeps every stack to itself and every count right") {
    const auto seed = GENERATE(std::random_device{}(), 1U);
    std::mt19937_64 random{seed};
    CAPTURE(seed);
    const auto below = [&random](std::size_t limit) {
        return static_cast<std::size_t>(random() % limit);
    };
    stack_pool pool{below(2) == 0 ? stack_guard::madvise : stack_guard::mprotect};
    struct held_stack {
        stack_memory memory;
        std::uint64_t mark;
    };
    std::vector<held_stack> held;
    std::map<std::byte*, std::byte*> regions; // the held ones, from bottom to top
    std::uint64_t next_mark = 1;

    for (int step = 0; step != 20'000; ++step) {
        const bool grows = step / 2000 % 2 == 0; // full and empty in turn
        if (below(10) < (grows ? 7U : 3U)) {
            const std::size_t bytes = (16 * kib) << below(3);
            const stack_memory memory = pool.allocate(bytes);
            if (memory.bytes != bytes)
                FAIL("a stack of another size");
            const auto above = regions.lower_bound(bottom(memory));
            const bool is_apart =
                (above == regions.end() || above->first > memory.top) &&
                (above == regions.begin() || std::prev(above)->second < bottom(memory));
            if (!is_apart)
                FAIL("two stacks overlap, or no guard lies between them");
            regions.emplace(bottom(memory), memory.top);
            word_at_top(memory) = word_at_bottom(memory) = next_mark;
            held.push_back({memory, next_mark++});
        } else if (!held.empty()) {
            std::swap(held[below(held.size())], held.back());
            const auto [memory, mark] = held.back();
            held.pop_back();
            if (word_at_top(memory) != mark || word_at_bottom(memory) != mark)
                FAIL("a held stack was written to");
            regions.erase(bottom(memory));
            pool.release(memory);
        }
        if (below(200) == 0)
            pool.trim(below(50));
        const stack_pool_statistics now = pool.statistics();
        if (now.stacks_in_use != held.size() || now.stacks_trimmed > now.stacks_idle)
            FAIL("the counts are wrong");
    }
    for (const auto& [memory, mark] : held) {
        CHECK(word_at_top(memory) == mark);
        pool.release(memory);
    }
    pool.trim(0);
    CHECK(pool.statistics().mapped_bytes == 0);
    CHECK(pool.statistics().mprotect_guards == 0);
}
