// Finds the inspect socket of a process.
#pragma once

#include <string>

namespace creelctl {

// `given`: the number of a process, a path, or an address as io::run takes it:
// "unix:/run/app.sock", "unix:@app". Returns what ask() takes. Throws: failure.
[[nodiscard]] std::string find_socket(const std::string& given);

} // namespace creelctl
