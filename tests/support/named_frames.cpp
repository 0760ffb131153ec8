#include "support/named_frames.hpp"

namespace creel::test {

bool has_debug_information() {
    return detail::code_names{}.reads_debug_information();
}

std::vector<detail::code_place> places_of(std::span<const detail::code_address> frames) {
    detail::code_names names;
    std::vector<detail::code_place> result;
    for (const detail::code_address& frame : frames) {
        const std::vector<detail::code_place>& places = names.of(frame);
        result.insert(result.end(), places.begin(), places.end());
    }
    return result;
}

const detail::code_place* place_named(const std::vector<detail::code_place>& places,
                                      const std::string& text) {
    for (const detail::code_place& p : places)
        if (p.function.find(text) != std::string::npos)
            return &p;
    return nullptr;
}

std::string found_in_order(const std::vector<detail::code_place>& places,
                           const std::vector<std::string>& texts) {
    std::size_t found = 0;
    std::string whole = "not found in:\n";
    for (const detail::code_place& p : places) {
        if (found < texts.size() && p.function.find(texts[found]) != std::string::npos)
            ++found;
        whole += p.function + " at " + p.file + ":" + std::to_string(p.line) + "\n";
    }
    return found == texts.size() ? "" : whole;
}

} // namespace creel::test
