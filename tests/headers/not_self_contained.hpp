// A fault planted for the header check: it needs <string>.
#pragma once

namespace planted {
std::string name();
} // namespace planted
