#include <creel/creel.hpp>

#include <iostream>

namespace {

// Steps over a guard of 64 KiB at once, unless its pages are touched in turn.
[[gnu::noinline]] int million_bytes() {
    char frame[1'000'000];
    char* p = frame;
    asm volatile("" : "+r"(p) : : "memory"); // clang would keep but the bytes that are named
    p[0] = 1;
    asm volatile("" : : "r"(p) : "memory");
    return p[0];
}

} // namespace

int main(int argc, char**) {
    if (argc > 1) {
        creel::io::run([](creel::nursery& root) {
            root.spawn({.name = "outside"}, [] { return million_bytes(); });
        });
        return 0;
    }
    bool ran = false;
    creel::io::run([&] {
        creel::with_nursery([&](creel::nursery& children) { children.spawn([&] { ran = true; }); });
    });
    std::cout << "creel " << creel::version.text << '\n';
    return ran ? 0 : 1;
}
