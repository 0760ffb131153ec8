#include "json.hpp"

#include "failure.hpp"
#include "text.hpp"

#include <utility>

namespace creelctl {

namespace {

class reader {
public:
    explicit reader(std::string_view text) : rest_(text) {}

    json read_all() {
        json all = read_value(0);
        skip_space();
        if (!rest_.empty())
            fail();
        return all;
    }

private:
    static constexpr int deepest = 64;

    [[noreturn]] static void fail() {
        throw failure{no_answer, "the answer is no dump that this creelctl knows"};
    }

    void skip_space() {
        while (!rest_.empty() && std::string_view{" \t\r\n"}.find(rest_.front()) != rest_.npos)
            rest_.remove_prefix(1);
    }
    char take() {
        if (rest_.empty())
            fail();
        const char c = rest_.front();
        rest_.remove_prefix(1);
        return c;
    }
    bool take_if(char c) {
        skip_space();
        if (rest_.empty() || rest_.front() != c)
            return false;
        rest_.remove_prefix(1);
        return true;
    }
    void expect(char c) {
        if (!take_if(c))
            fail();
    }

    json read_value(int depth) {
        if (depth > deepest)
            fail();
        json value;
        if (take_if('{'))
            read_object(value, depth);
        else if (take_if('['))
            read_array(value, depth);
        else if (take_if('"'))
            value.text = read_string();
        else
            value.text = read_word();
        return value;
    }

    void read_object(json& to, int depth) {
        if (take_if('}'))
            return;
        do {
            expect('"');
            std::string key = read_string();
            expect(':');
            to.members.insert_or_assign(std::move(key), read_value(depth + 1));
        } while (take_if(','));
        expect('}');
    }

    void read_array(json& to, int depth) {
        if (take_if(']'))
            return;
        do
            to.items.push_back(read_value(depth + 1));
        while (take_if(','));
        expect(']');
    }

    // Behind the first quote. Any process may have sent it, and a terminal will get it.
    std::string read_string() { return printable(read_raw_string()); }

    std::string read_raw_string() {
        std::string text;
        for (char c = take(); c != '"'; c = take()) {
            if (c != '\\') {
                text += c;
                continue;
            }
            c = take();
            if (c == 'u')
                text += read_code_point();
            else
                text += c == 'n' || c == 't' || c == 'r' || c == 'b' || c == 'f' ? ' ' : c;
        }
        return text;
    }

    // A dump escapes only bytes that a terminal would obey, and what is no UTF-8.
    std::string read_code_point() {
        for (int i = 0; i < 4; ++i)
            take();
        return "?";
    }

    std::string read_word() {
        std::string word;
        while (!rest_.empty() && std::string_view{",]} \t\r\n"}.find(rest_.front()) == rest_.npos)
            word += take();
        if (word.empty())
            fail();
        return printable(word);
    }

    std::string_view rest_;
};

} // namespace

json json::parse(std::string_view text) {
    return reader{text}.read_all();
}

const json& json::operator[](const std::string& key) const {
    static const json nothing;
    const auto at = members.find(key);
    return at != members.end() ? at->second : nothing;
}

double json::number() const noexcept {
    return number_in(text);
}

} // namespace creelctl
