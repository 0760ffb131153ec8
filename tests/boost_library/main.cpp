// A program that loads a library which uses libboost_fiber.so. Usage: creel_boost_library LIBRARY.
// Where creel is on the same libboost_fiber.so, the library's waits let other fibers run. Where it
// has Boost from the archive there are two copies, which io::run reports.
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <cstdio>
#include <cstring>

#include <dlfcn.h>

namespace {

long (*library_work)(int) = nullptr;

#if defined(CREEL_TEST_SHARED_BOOST)
// Whether the library gave the right sum, and others could run while it waited.
bool works() {
    long sum = 0;
    int turns = 0;
    creel::with_nursery([&](creel::nursery& n) {
        bool done = false;
        n.spawn([&] {
            sum = library_work(100);
            done = true;
        });
        while (!done) {
            ++turns;
            creel::this_fiber::yield();
        }
    });
    std::printf("sum %ld after %d turns of another fiber\n", sum, turns);
    return sum == 5050 && turns >= 100; // each of its sleeps gives at least one
}
#endif

} // namespace

int main(int argc, char** argv) {
    if (argc != 2)
        return 2;
    void* const library = ::dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    void* const symbol = library != nullptr ? ::dlsym(library, "boost_library_work") : nullptr;
    if (symbol == nullptr) {
        std::fprintf(stderr, "%s\n", ::dlerror());
        return 2;
    }
    static_assert(sizeof library_work == sizeof symbol);
    std::memcpy(&library_work, &symbol, sizeof symbol);
#if defined(CREEL_TEST_SHARED_BOOST)
    return creel::io::run(works) ? 0 : 1;
#else
    creel::io::run([] {});
    creel::io::run([] {}); // says it once
    return 0;
#endif
}
