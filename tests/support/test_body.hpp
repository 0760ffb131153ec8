// A reference to the function of a test, which a fixture or a helper runs. The function may take
// the Arguments (by reference) or nothing. So a fixture is compiled once, and not once for each
// test.
#pragma once

#include <memory>
#include <type_traits>

namespace creel::test {

template <typename... Arguments>
class test_body {
public:
    // Refers to f, which must live until the fixture has returned.
    template <typename F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, test_body>)
    test_body(F&& f) noexcept
        : function_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
          call_(&call<std::remove_reference_t<F>>) {}

    void operator()(Arguments&... arguments) const { call_(function_, arguments...); }

private:
    template <typename F>
    static void call(void* function, Arguments&... arguments) {
        auto& f = *static_cast<F*>(function);
        if constexpr (std::is_invocable_v<F&, Arguments&...>)
            f(arguments...);
        else
            f();
    }

    void* function_;
    void (*call_)(void*, Arguments&...);
};

} // namespace creel::test
