#include "harness.hpp"

int main(int argc, char** argv) {
    return creel::bench::run(argc, argv);
}
