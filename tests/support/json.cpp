#include "json.hpp"

#include <cctype>
#include <cstddef>

namespace creel::test {

namespace {

// A recursive descent over the grammar. Each function takes one thing off the front of the text, or
// returns false.
struct json_reader {
    std::string_view rest;

    void skip_space() {
        while (!rest.empty() && std::string_view{" \t\r\n"}.find(rest.front()) != rest.npos)
            rest.remove_prefix(1);
    }
    bool take(std::string_view token) {
        if (!rest.starts_with(token))
            return false;
        rest.remove_prefix(token.size());
        return true;
    }
    bool digits() {
        const std::size_t before = rest.size();
        while (!rest.empty() && std::isdigit(static_cast<unsigned char>(rest.front())) != 0)
            rest.remove_prefix(1);
        return rest.size() != before;
    }
    bool number() {
        static_cast<void>(take("-"));
        if (!take("0") && !digits())
            return false;
        if (take(".") && !digits())
            return false;
        if (!take("e") && !take("E"))
            return true;
        static_cast<void>(take("-") || take("+"));
        return digits();
    }
    bool string() {
        if (!take("\""))
            return false;
        while (!rest.empty() && rest.front() != '"') {
            const char c = rest.front();
            rest.remove_prefix(1);
            if (static_cast<unsigned char>(c) < 0x20)
                return false;
            if (c == '\\' && !escape())
                return false;
        }
        return take("\"");
    }
    bool escape() {
        if (!take("u")) {
            if (rest.empty() || std::string_view{"\"\\/bfnrt"}.find(rest.front()) == rest.npos)
                return false;
            rest.remove_prefix(1);
            return true;
        }
        for (int i = 0; i < 4; ++i) {
            if (rest.empty() || std::isxdigit(static_cast<unsigned char>(rest.front())) == 0)
                return false;
            rest.remove_prefix(1);
        }
        return true;
    }
    // Behind the opening bracket, whose presence the caller knows.
    template <typename Item>
    bool list(char close, Item item) {
        rest.remove_prefix(1);
        skip_space();
        if (take({&close, 1}))
            return true;
        do {
            if (!item())
                return false;
        } while (take(","));
        return take({&close, 1});
    }
    bool member() {
        skip_space();
        if (!string())
            return false;
        skip_space();
        return take(":") && value();
    }
    bool value() {
        skip_space();
        const bool is_one = one_value();
        skip_space();
        return is_one;
    }
    bool one_value() {
        switch (rest.empty() ? '\0' : rest.front()) {
        case '{':
            return list('}', [this] { return member(); });
        case '[':
            return list(']', [this] { return value(); });
        case '"':
            return string();
        default:
            return take("true") || take("false") || take("null") || number();
        }
    }
};

} // namespace

bool is_json(std::string_view text) {
    json_reader reader{text};
    return reader.value() && reader.rest.empty();
}

} // namespace creel::test
