// Commits the fault named by its argument, on a fiber. A sanitized build runs it to see that its
// sanitizer finds faults there: one that had lost track of the stacks would pass every test.
#include "support/planted.hpp"

#include <creel/creel.hpp>

#include <climits>
#include <latch>
#include <string_view>
#include <thread>

namespace {

int shared_by_two_threads = 0;

void race() {
    std::latch both{2};
    auto increment = [&both] {
        creel::io::run([&both] {
            both.arrive_and_wait();
            ++shared_by_two_threads;
        });
    };
    std::thread other{increment};
    increment();
    other.join();
}

template <class Fault>
void on_a_fiber(Fault fault) {
    creel::io::run([&fault] {
        creel::with_nursery([&fault](creel::nursery& children) {
            // Past a switch, so that the announced bounds are those of this fiber's stack.
            children.spawn([&fault] {
                creel::this_fiber::yield();
                fault();
            });
        });
    });
}

// Pointers and values are volatile so that the compiler neither sees through the fault nor warns.
void use_after_free() {
    int* volatile freed = new int{1};
    delete freed;
    [[maybe_unused]] volatile int value = *freed;
}

void write_past_a_local() {
    char local[8] = {};
    char* volatile end = local + sizeof local;
    *end = 1;
}

void leak() {
    [[maybe_unused]] int* volatile lost = nullptr;
    // Many, for a stray copy of one pointer may survive on a stack.
    for (int i = 0; i < 100; ++i)
        lost = new int{i};
    lost = nullptr;
}

void overflow() {
    volatile int largest = INT_MAX;
    largest = largest + 1;
}

void overflow_in_a_template() {
    volatile int largest = INT_MAX;
    largest = creel::test::one_more(largest);
}

void misaligned_in_a_template() {
    alignas(int) char bytes[2 * sizeof(int)] = {};
    char* volatile one = bytes + 1;
    [[maybe_unused]] volatile int value = creel::test::read_at<int>(one);
}

} // namespace

int main(int argc, char** argv) {
    std::string_view fault = argc == 2 ? argv[1] : "";
    if (fault == "race")
        race();
    else if (fault == "use_after_free")
        on_a_fiber(use_after_free);
    else if (fault == "write_past_a_local")
        on_a_fiber(write_past_a_local);
    else if (fault == "leak")
        on_a_fiber(leak);
    else if (fault == "overflow")
        on_a_fiber(overflow);
    else if (fault == "overflow_in_a_template")
        on_a_fiber(overflow_in_a_template);
    else if (fault == "misaligned_in_a_template")
        on_a_fiber(misaligned_in_a_template);
    else
        return 2;
}
