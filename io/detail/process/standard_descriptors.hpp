// Descriptors 0 to 2. Where one of them is closed, the next that anybody opens gets its number, and
// what the program then prints goes to a client's connection, or into the ring.
#pragma once

namespace creel::io::detail {

// Puts /dev/null where one is closed, for good, as the runtimes of Rust and Go do. Threads: any.
// Throws: std::system_error, where there is no /dev/null. Cost: three short system calls.
void fill_standard_descriptors();

} // namespace creel::io::detail
