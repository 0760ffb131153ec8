// A library calls back on a thread of its own, and the callback goes on with the fiber's work
// there. With the argument "right" it does so as it should.

#include <creel/creel.hpp>

#include <iostream>
#include <string_view>
#include <thread>

namespace {

template <typename F>
std::jthread query(F callback) {
    return std::jthread{[callback]() mutable { callback(42); }};
}

void wrong() {
    creel::with_nursery([](creel::nursery& n) {
        auto library = query([&n](int answer) {
            n.spawn([answer] { std::cout << "the answer is " << answer << std::endl; });
        });
    });
}

void right() {
    creel::sync::promise<int> promise;
    auto library = query([&promise](int answer) { promise.set_value(answer); });
    std::cout << "the answer is " << promise.get_future().get() << std::endl;
}

} // namespace

int main(int count, char** arguments) {
    creel::io::run(count > 1 && arguments[1] == std::string_view{"right"} ? right : wrong);
}
