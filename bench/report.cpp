#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>
#include <ostream>
#include <string_view>

namespace creel::bench {
namespace {

std::string pad_left(std::string text, std::size_t width) {
    return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

std::string pad_right(std::string text, std::size_t width) {
    return text.size() < width ? text + std::string(width - text.size(), ' ') : text;
}

// "12,345,678"; values under 100 have two decimals.
std::string long_value(double value) {
    std::array<char, 64> digits{};
    std::snprintf(digits.data(), digits.size(), std::abs(value) < 100 ? "%.2f" : "%.0f", value);
    std::string text = digits.data();
    const auto point = std::min(text.find('.'), text.size());
    for (std::size_t i = point; i > 3; i -= 3)
        if (text[i - 4] != '-')
            text.insert(i - 3, ",");
    return text;
}

// Calls f for each case, with the range of its candidates: they are adjacent in `results`.
template <class F>
void for_each_case(const std::vector<result>& results, F f) {
    for (std::size_t begin = 0; begin < results.size();) {
        std::size_t end = begin;
        while (end < results.size() && results[end].case_name == results[begin].case_name)
            ++end;
        f(begin, end);
        begin = end;
    }
}

std::optional<double> best_control(const std::vector<result>& results, std::size_t begin,
                                   std::size_t end, std::size_t figure, bool more_is_better) {
    std::optional<double> best;
    for (std::size_t i = begin; i < end; ++i) {
        const double value = results[i].figures[figure].median;
        if (results[i].control && (!best || (more_is_better ? value > *best : value < *best)))
            best = value;
    }
    return best;
}

std::string ratio_text(double value, std::optional<double> base) {
    if (!base || *base == 0)
        return "";
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), " %.3fx", value / *base);
    return text.data();
}

// The text after a candidate that failed in some rounds.
std::string failure_text(const result& one) {
    if (one.failed == 0)
        return "";
    return "  FAILED in " + std::to_string(one.failed) + " of " +
           std::to_string(one.rounds + one.failed) + " rounds";
}

void print_every_id(std::ostream& out, const family_results& results) {
    const auto& family = results.of;
    std::size_t width = 0;
    for (const auto& one : results.results)
        for (const auto& figure : family.figures)
            width = std::max(width,
                             id_of(family.name, one.candidate, figure.name, one.case_name).size());
    out << '\n'
        << pad_right("id", width) << pad_left("median", 14) << pad_left("min", 14)
        << pad_left("max", 14) << "  unit\n";
    for_each_case(results.results, [&](std::size_t begin, std::size_t end) {
        for (std::size_t f = 0; f < family.figures.size(); ++f)
            for (std::size_t i = begin; i < end; ++i) {
                const auto& one = results.results[i];
                const auto& [median, min, max] = one.figures[f];
                out << pad_right(
                           id_of(family.name, one.candidate, family.figures[f].name, one.case_name),
                           width)
                    << pad_left(long_value(median), 14) << pad_left(long_value(min), 14)
                    << pad_left(long_value(max), 14) << "  " << family.figures[f].unit
                    << failure_text(one) << '\n';
            }
    });
    for (const auto& id : results.failed)
        out << id << "  FAILED in every round\n";
}

void print_ratios(std::ostream& out, const family_results& results) {
    constexpr std::size_t cell = 18;
    const auto& family = results.of;
    std::size_t width = family.name.size();
    for (const auto& one : results.results)
        width = std::max(
            {width, one.candidate.size() + 2, family.name.size() + 1 + one.case_name.size()});
    out << "\nMedians, with the ratio to the best control (* is a control)\n";
    for_each_case(results.results, [&](std::size_t begin, std::size_t end) {
        out << '\n'
            << pad_right(id_of(family.name, "", "", results.results[begin].case_name), width);
        for (const auto& figure : family.figures)
            out << pad_left(figure.name.empty() ? figure.unit : figure.name, cell);
        out << '\n';
        for (std::size_t i = begin; i < end; ++i) {
            const auto& one = results.results[i];
            out << pad_right((one.control ? "* " : "  ") + one.candidate, width);
            for (std::size_t f = 0; f < family.figures.size(); ++f) {
                const auto& figure = family.figures[f];
                const double median = one.figures[f].median;
                const auto base =
                    best_control(results.results, begin, end, f, figure.more_is_better);
                out << pad_left(short_value(median, figure.unit) + ratio_text(median, base), cell);
            }
            out << failure_text(one) << '\n';
        }
    });
}

// "[1.5, null, 2]": JSON has no NaN.
std::string json_list(const std::vector<double>& values) {
    std::string text = "[";
    for (const double value : values) {
        std::array<char, 32> number{"null"};
        if (std::isfinite(value))
            std::snprintf(number.data(), number.size(), "%.10g", value);
        text += text.size() > 1 ? ", " : "";
        text += number.data();
    }
    return text + ']';
}

} // namespace

std::string id_of(const std::string& family, const std::string& candidate,
                  const std::string& figure, const std::string& case_name) {
    std::string id = family;
    for (const auto* part : {&candidate, &figure, &case_name})
        if (!part->empty())
            id += "/" + *part;
    return id;
}

std::string short_value(double value, const std::string& unit) {
    static constexpr std::array<std::string_view, 4> times{"ns", "us", "ms", "s"};
    static constexpr std::array<std::string_view, 4> counts{"", "k", "M", "G"};
    std::size_t step = 0;
    while (std::abs(value) >= 1000 && step + 1 < times.size()) {
        value /= 1000;
        ++step;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return text.data() + std::string{unit == "ns" ? times[step] : counts[step]};
}

void print_tables(std::ostream& out, const family_results& results) {
    print_every_id(out, results);
    if (!results.results.empty()) {
        print_ratios(out, results);
        if (results.of.conclude)
            results.of.conclude(out, results);
    }
    out << std::flush;
}

void print_verdict_heading(std::ostream& out) {
    out << "\nWhat creel is to reach: its ratio to another candidate, the median over the "
           "rounds\n\n";
}

void print_verdict(std::ostream& out, const family_results& results, const result& mine,
                   const result& other, std::size_t figure, double most) {
    const auto what =
        id_of(results.of.name, mine.candidate, results.of.figures[figure].name, mine.case_name);
    const auto ratios = summarise_ratios(mine.by_round[figure], other.by_round[figure]);
    if (!ratios) {
        out << what << " has no round in common with " << other.candidate << ": MISSED\n";
        return;
    }
    std::array<char, 256> line{};
    std::snprintf(line.data(), line.size(),
                  "%-44s %.3fx %-20s (%.2f to %.2f; of medians %.3f) wanted %.2f: %s\n",
                  what.c_str(), ratios->median, other.candidate.c_str(), ratios->min, ratios->max,
                  mine.figures[figure].median / other.figures[figure].median, most,
                  ratios->median <= most ? "holds" : "MISSED");
    out << line.data();
}

std::string json_quoted(const std::string& text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            quoted += '\\';
            quoted += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            std::array<char, 8> escape{};
            std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
            quoted += escape.data();
        } else {
            quoted += c;
        }
    }
    return quoted + '"';
}

void write_json(std::ostream& out, const context& about, const std::vector<family_results>& all) {
    out.precision(10);
    out << "{\n  \"context\": {";
    const char* separator = "\n";
    for (const auto& [key, value] : about) {
        out << separator << "    " << json_quoted(key) << ": " << value;
        separator = ",\n";
    }
    out << "\n  },\n  \"results\": [";
    separator = "\n";
    for (const auto& results : all)
        for (const auto& one : results.results)
            for (std::size_t f = 0; f < one.figures.size(); ++f) {
                const auto& figure = results.of.figures[f];
                const auto& [median, min, max] = one.figures[f];
                out << separator << "    {\"id\": "
                    << json_quoted(
                           id_of(results.of.name, one.candidate, figure.name, one.case_name))
                    << ", \"unit\": " << json_quoted(figure.unit) << ", \"median\": " << median
                    << ", \"min\": " << min << ", \"max\": " << max
                    << ", \"rounds\": " << one.rounds << ", \"failed\": " << one.failed
                    << ", \"values\": " << json_list(one.by_round[f]) << '}';
                separator = ",\n";
            }
    out << "\n  ]\n}\n" << std::flush;
}

} // namespace creel::bench
