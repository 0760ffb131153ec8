// A child throws, and nothing catches it.

#include <creel/creel.hpp>

#include <chrono>
#include <stdexcept>

using namespace std::chrono_literals;

namespace {

void fetch() {
    creel::this_fiber::sleep_for(1ms);
    throw std::runtime_error("no such page");
}

} // namespace

int main() {
    creel::io::run(
        [] { creel::with_nursery([](creel::nursery& n) { n.spawn({.name = "fetch"}, fetch); }); });
}
