// Descriptors 0 to 2. If one of them is closed, the next descriptor that any code opens gets its
// number, and then the program's output goes into a client's connection or into the ring.
#pragma once

namespace creel::io::detail {

// Opens /dev/null in the place of each that is closed, for good, as the runtimes of Rust and Go do.
// Threads: any. Throws: std::system_error if there is no /dev/null. Cost: three short system calls.
void fill_standard_descriptors();

} // namespace creel::io::detail
