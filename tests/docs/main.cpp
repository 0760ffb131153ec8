// Runs every example of a guide, one run each. None has a deadline around it that it could see; one
// that hangs meets ctest's.
#include "prelude.hpp"

int main() {
    for (const documented& example : examples) {
        std::printf("the example at line %d\n", example.line);
        std::fflush(stdout);
        io::run([&] { example.run(); });
    }
}
