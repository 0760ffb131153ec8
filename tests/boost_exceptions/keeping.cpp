// Makes of a Boost that leaves the exception state alone one that keeps it, as it does since 1.88:
// the linker hands us (--wrap) the calls by which it resumes a context.
#include <boost/context/detail/fcontext.hpp>

#include <cxxabi.h>

using boost::context::detail::fcontext_t;
using boost::context::detail::transfer_t;

namespace {

class kept_exceptions {
public:
    kept_exceptions() noexcept : state_{*of_thread()} {}
    kept_exceptions(const kept_exceptions&) = delete;
    kept_exceptions& operator=(const kept_exceptions&) = delete;
    ~kept_exceptions() { *of_thread() = state_; }

private:
    struct state {
        void* caught;
        unsigned int uncaught;
    };
    static state* of_thread() noexcept {
        return reinterpret_cast<state*>(abi::__cxa_get_globals());
    }

    state state_;
};

// A context is made by a jump to it with its record, and a jump back, by which it keeps nothing.
bool is_being_made = false;

} // namespace

extern "C" {

transfer_t __real_jump_fcontext(fcontext_t to, void* data);
transfer_t __real_ontop_fcontext(fcontext_t to, void* data, transfer_t (*on_arrival)(transfer_t));

transfer_t __wrap_jump_fcontext(fcontext_t to, void* data) {
    if (is_being_made) {
        is_being_made = false;
        return __real_jump_fcontext(to, data);
    }
    is_being_made = data != nullptr;
    const kept_exceptions mine;
    return __real_jump_fcontext(to, data);
}

transfer_t __wrap_ontop_fcontext(fcontext_t to, void* data, transfer_t (*on_arrival)(transfer_t)) {
    const kept_exceptions mine;
    return __real_ontop_fcontext(to, data, on_arrival);
}
}
