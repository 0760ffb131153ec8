// A fault planted for the header check: it cannot be included twice.
namespace planted {
struct twice {};
} // namespace planted
