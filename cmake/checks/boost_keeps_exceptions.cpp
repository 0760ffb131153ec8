// Finds out whether Boost keeps the C++ exception state of each context. Exits with 11 if it does
// and with 10 if not. CreelBoostExceptions.cmake and a test run it.
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>

#include <cstdio>
#include <cxxabi.h>

int main() {
    // The second word of the thread's state counts the exceptions on their way.
    auto& on_their_way =
        *(reinterpret_cast<unsigned int*>(abi::__cxa_get_globals()) + sizeof(void*) / sizeof(int));
    unsigned int found = 0;
    boost::fibers::fiber other{[&] {
        on_their_way = 7;
        boost::this_fiber::yield();
        found = on_their_way;
        on_their_way = 0;
    }};
    boost::this_fiber::yield();
    on_their_way = 0;
    other.join();
    const bool keeps = found == 7;
    std::puts(keeps ? "it keeps them" : "it leaves them");
    return keeps ? 11 : 10;
}
