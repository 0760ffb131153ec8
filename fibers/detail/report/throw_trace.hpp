// Notes, in debug mode, where an error was thrown that leaves a task, the body of a nursery, or a
// call of blocking().
//
//     try {
//         f();
//     } catch (const throw_probe&) { // catches nothing
//     } catch (...) {
//         error = std::current_exception();
//     }
//
// An exception unwinds in two phases (Itanium C++ ABI, 1.3). The first one looks for a handler,
// from the throw up, while the whole stack is still there. To compare a handler's type with the
// type of the exception, libstdc++ calls a virtual function of the handler's std::type_info. That
// of throw_probe is creel's own: it walks up the stack, and answers "no". So a probe costs nothing
// until an exception comes to it, and an error that a handler inside catches does not come to it.
// docs/rationale.md says what was rejected.
#pragma once

namespace creel::detail {

class throw_probe {
public:
    throw_probe() = delete;
    virtual ~throw_probe(); // never defined: so no source but throw_trace.cpp has its type_info
};

} // namespace creel::detail
