// A recursion of 20,000 levels, as by a parser that is given "[[[[..." by a stranger. With the
// argument "right" the fiber has a stack for it.

#include <creel/creel.hpp>

#include <cstddef>
#include <iostream>
#include <string_view>

namespace {

struct level {
    const level* outer;
    int number;
};

int descend(const level* outer, int left) {
    const level here{outer, left};
    if (left > 0)
        return descend(&here, left - 1);
    creel::this_fiber::yield(); // waits for more bytes
    int levels = 0;
    for (const level* l = &here; l != nullptr; l = l->outer)
        ++levels;
    return levels;
}

} // namespace

int main(int count, char** arguments) {
    const bool right = count > 1 && arguments[1] == std::string_view{"right"};
    const std::size_t stack_bytes = right ? std::size_t{16} << 20 : 0;
    creel::io::run([&] {
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "parser", .stack_bytes = stack_bytes},
                    [] { std::cout << "levels: " << descend(nullptr, 20'000) << std::endl; });
        });
    });
}
