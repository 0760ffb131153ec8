// The names of code: function, source file and line, also of functions that were inlined. It reads
// the debug information with libdw of elfutils, which it loads when it is first asked, if creel was
// built where libdw's headers are. A program links nothing for it, and starts no slower. Without
// libdw, or without debug information, there are the functions that the dynamic linker knows.
//
//     code_names names;
//     for (const code_place& p : names.of(address))
//         std::printf("%s at %s:%u\n", p.function.c_str(), p.file.c_str(), p.line);
//
// It reads files of this machine only: it never asks a server for debug information (debuginfod),
// and never starts a process.
#pragma once

#include <creel/fibers/detail/unwind/unwind.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace creel::detail {

struct code_place {
    std::string function;      // demangled; empty if unknown
    std::string file;          // as the debug information has it; empty if unknown
    unsigned line = 0;         // 0 if unknown
    std::string module;        // the program or library
    std::uintptr_t offset = 0; // in the module, as its own file counts
    bool is_inlined = false;   // into the next place
};

// Threads: one at a time, and not a thread that runs fibers, because a first look at a large
// program takes long. Not from a signal handler.
class code_names {
public:
    code_names();
    ~code_names();
    code_names(const code_names&) = delete;
    code_names& operator=(const code_names&) = delete;

    // The places of an address, the innermost inlined function first: always at least one. They are
    // kept until the next call after a library was loaded or unloaded.
    [[nodiscard]] const std::vector<code_place>& of(const code_address& address);

    // Closes the files and frees the memory of libdw. The places that are known stay; the next
    // unknown address opens the files again.
    void close();

    // Whether libdw is there, and not closed.
    [[nodiscard]] bool reads_debug_information() const noexcept { return debug_ != nullptr; }

private:
    class debug_information;

    void note_loads();

    std::unique_ptr<debug_information> debug_;
    bool is_closed_ = false;
    unsigned long long loads_ = 0; // and unloads, of the process, when it last looked
    std::unordered_map<std::uintptr_t, std::vector<code_place>> known_;
};

// Whose code it is: the program's; creel's, or what a program calls of Boost.Fiber; or that of
// another library, or of what is between a function and its caller.
enum class code_owner : std::uint8_t { program, creel, other };
[[nodiscard]] code_owner owner_of(const code_place& place) noexcept;

// With "..." for long template arguments. Throws: std::bad_alloc.
[[nodiscard]] std::string short_name(const std::string& function);

} // namespace creel::detail
