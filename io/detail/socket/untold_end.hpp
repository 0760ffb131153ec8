// The way in which the standing receive of a stream ended, kept until a recv is told.
//
//     none ── set() ──► once ── take() ──► none
//       └────┬────────────┘
//            └─ set_for_good() ──► always
//
// `always` is for a stream that has lost bytes: each later recv is told.
#pragma once

namespace creel::io::detail {

class untold_end {
public:
    // 0: the peer has sent all. Else -errno.
    void set(int result) noexcept {
        if (told_ != told::always)
            become(told::once, result);
    }
    void set_for_good(int result) noexcept { become(told::always, result); }

    [[nodiscard]] bool exists() const noexcept { return told_ != told::none; }
    [[nodiscard]] bool is_error() const noexcept { return exists() && result_ != 0; }
    int take() noexcept {
        if (told_ == told::once)
            told_ = told::none;
        return result_;
    }

private:
    enum class told : unsigned char { none, once, always };

    void become(told t, int result) noexcept {
        told_ = t;
        result_ = result;
    }

    int result_ = 0;
    told told_ = told::none;
};

} // namespace creel::io::detail
