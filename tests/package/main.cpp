#include <creel/creel.hpp>

#include <iostream>

int main() {
    bool ran = false;
    creel::io::run([&] {
        creel::with_nursery([&](creel::nursery& children) { children.spawn([&] { ran = true; }); });
    });
    std::cout << "creel " << creel::version.text << '\n';
    return ran ? 0 : 1;
}
