// A loop calls a function that may wait and does not, a million times.

#include <creel/creel.hpp>

#include <iostream>

namespace {

int next(int value) {
    return value + 1;
} // as from a buffer that is full

} // namespace

int main() {
    creel::io::run([] {
        int value = 0;
        while (value < 1'000'000)
            value = next(value);
        std::cout << "counted to " << value << std::endl;
    });
}
