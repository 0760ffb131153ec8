// The program has done its work, and a task still waits for something that never comes.

#include <creel/creel.hpp>

#include <iostream>
#include <string>

namespace {

struct connection {
    ~connection() { std::cout << "closed" << std::endl; }
    std::string text = "what the connection holds, on the heap";
};

} // namespace

int main() {
    creel::sync::event never;
    creel::io::run([&](creel::nursery& root) {
        root.spawn([&] {
            const connection mine;
            never.wait();
        });
        creel::this_fiber::yield();
        std::cout << "work done" << std::endl;
    });
    std::cout << "end of main" << std::endl;
}
